<?php
// Asks composer/semver, where Debian's package puts it.
require '/usr/share/php/Composer/Semver/autoload.php';

use Composer\Semver\Comparator;
use Composer\Semver\Semver;
use Composer\Semver\VersionParser;

$parser = new VersionParser();
while (($line = fgets(STDIN)) !== false) {
    [$kind, $left, $right] = explode("\t", rtrim($line, "\n"));
    try {
        if ($kind === 'c') {
            $left = $parser->normalize($left);
            $right = $parser->normalize($right);
            $isLess = Comparator::lessThan($left, $right);
            echo $isLess ? '<' : (Comparator::equalTo($left, $right) ? '=' : '>'), "\n";
        } else {
            echo Semver::satisfies($left, $right) ? 'true' : 'false', "\n";
        }
    } catch (\Throwable $error) {
        echo "invalid\n";
    }
}
