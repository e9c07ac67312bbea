# The guest's half of the network tests: perl /dev/vdb COMMAND ARGUMENT...
use strict; use warnings;
use IO::Socket::IP; use Digest::MD5 qw(md5_hex);
$SIG{ALRM} = sub { print "timeout\n"; exit 3 }; alarm 60;
my $command = shift;

sub pattern { my ($n) = @_; my $block = join('', map { chr($_ % 251) } 0 .. 251 * 256 - 1);
  return substr($block x (int($n / length $block) + 1), 0, $n) }
sub slurp { my ($s) = @_; my $all = ''; while (sysread($s, my $part, 65536)) { $all .= $part } $all }
sub spit { my ($s, $data) = @_; my $at = 0;
  while ($at < length $data) { $at += syswrite($s, $data, 65536, $at) // die "write: $!" } }
sub dial { my ($host, $port) = @_;
  IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Timeout => 8) // do { print "refused\n"; exit 2 } }

if ($command eq 'send') {            # send HOST PORT BYTES: prints what the other end answers
  my ($host, $port, $bytes) = @ARGV;
  my $s = dial($host, $port); spit($s, pattern($bytes)); shutdown($s, 1);
  my $sum = ''; 1 while length $sum < 32 && sysread($s, $sum, 32, length $sum); print "$sum\n";
} elsif ($command eq 'receive') {    # receive HOST PORT: prints the sum of all that comes
  my $s = dial(@ARGV); print md5_hex(slurp($s)), "\n";
} elsif ($command eq 'serve') {      # serve PORT: one connection, answered with the sum
  my $l = IO::Socket::IP->new(LocalPort => shift, Listen => 1, ReuseAddr => 1) // die "listen: $!";
  print "listening\n"; $| = 1; my $s = $l->accept; spit($s, md5_hex(slurp($s))); close $s;
} elsif ($command eq 'udp-serve') {  # udp-serve PORT: one datagram, answered with its sum
  my $s = IO::Socket::IP->new(LocalPort => shift, Proto => 'udp') // die "bind: $!";
  my $from = $s->recv(my $data, 65536); $s->send(md5_hex($data), 0, $from);
} elsif ($command eq 'udp') {        # udp HOST PORT BYTES: prints the answer
  my ($host, $port, $bytes) = @ARGV;
  my $s = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Proto => 'udp') // die "udp: $!";
  $s->send(pattern($bytes)); $s->recv(my $answer, 65536); print md5_hex($answer), "\n";
} elsif ($command eq 'tftp') {       # tftp HOST FILE (RFC 1350)
  my ($host, $file) = @ARGV;
  socket(my $s, AF_INET, SOCK_DGRAM, 0) // die $!;
  send($s, pack('nZ*Z*', 1, $file, 'octet'), 0, pack_sockaddr_in(69, inet_aton($host)));
  my $all = '';
  while (my $from = recv($s, my $packet, 2048, 0)) {
    my ($kind, $block) = unpack('nn', $packet);
    if ($kind != 3) { print "error: ", substr($packet, 4), "\n"; exit 2 }
    $all .= substr($packet, 4); send($s, pack('nn', 4, $block), 0, $from);
    last if length $packet < 516;
  }
  print md5_hex($all), "\n";
} elsif ($command eq 'resolve') {    # resolve SERVER NAME: the answer's first address (RFC 1035)
  my ($server, $name) = @ARGV;
  my $s = IO::Socket::IP->new(PeerHost => $server, PeerPort => 53, Proto => 'udp') // die $!;
  $s->send(pack('n6', 7, 0x100, 1, 0, 0, 0) . join('', map { pack('C/a', $_) } split /\./, $name) .
           pack('xnn', 1, 1));
  $s->recv(my $answer, 2048); my ($id, $flags, $q, $count) = unpack('n4', $answer);
  printf "id=%d answer=%d\n", $id, ($flags >> 15);
}
__END__
