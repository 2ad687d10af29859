// Asks maven-artifact, where Debian's package puts it.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.apache.maven.artifact.versioning.ComparableVersion;
import org.apache.maven.artifact.versioning.DefaultArtifactVersion;
import org.apache.maven.artifact.versioning.VersionRange;

public class Maven {
    static String answer(String kind, String left, String right) {
        try {
            if (kind.equals("c")) {
                int order = new ComparableVersion(left).compareTo(new ComparableVersion(right));
                return order < 0 ? "<" : order > 0 ? ">" : "=";
            }
            VersionRange range = VersionRange.createFromVersionSpec(right);
            return String.valueOf(range.containsVersion(new DefaultArtifactVersion(left)));
        } catch (Exception error) {
            return "invalid";
        }
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] parts = line.split("\t", -1);
            System.out.println(answer(parts[0], parts[1], parts[2]));
        }
    }
}
