# Work for Perl: strings, hashes, regular expressions and sorting.
use strict;
use warnings;

my $seed = 42;
sub random { return $seed = ($seed * 1103515245 + 12345) % 2147483648; }

my @lines;
for my $number (1 .. 15000) {
    push @lines, sprintf("%05d user%d GET /page/%x %d", $number, random() % 97, random() % 4096, random() % 500);
}
my (%hits, %bytes);
for my $line (@lines) {
    next unless $line =~ m{^\d+ (\w+) GET /page/([0-9a-f]+) (\d+)$};
    $hits{$1}++;
    $bytes{$2} += $3;
}
my $text = join ' ', map { "$_=$hits{$_}" } sort { $hits{$b} <=> $hits{$a} || $a cmp $b } keys %hits;
$text =~ s/(\d+)/$1 * 2/ge;
my $sum = 0;
for my $page (sort keys %bytes) { $sum = ($sum * 31 + $bytes{$page}) % 1000003; }
print length($text), " $sum\n";
