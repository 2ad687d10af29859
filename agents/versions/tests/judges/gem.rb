# Asks RubyGems.
STDIN.each_line(chomp: true) do |line|
  kind, left, right = line.split("\t", -1)
  begin
    version = Gem::Version.new(left)
    if kind == "c"
      puts "<=>"[(version <=> Gem::Version.new(right)) + 1]
    else
      puts Gem::Requirement.new(right.split(",").map(&:strip)).satisfied_by?(version)
    end
  rescue StandardError
    puts "invalid"
  end
end
