# Reads DMARC records with Mail::DMARC: texts as JSON strings, one a line, each character an octet; results as JSON lines.
# A result has the tags `p`, `sp`, `adkim` and `aspf` where the record has them, or `error`.
use strict;
use warnings;

use JSON::PP;
use Mail::DMARC::Policy;

my $json = JSON::PP->new->latin1->allow_nonref;
$| = 1;
$SIG{__WARN__} = sub { };
while (my $line = <STDIN>) {
    my %answer;
    eval {
        my $policy = Mail::DMARC::Policy->new($json->decode($line));
        for my $tag (qw(p sp adkim aspf)) {
            $answer{$tag} = lc $policy->{$tag} if defined $policy->{$tag};
        }
        1;
    } or %answer = (error => "$@");
    print $json->ascii->encode(\%answer), "\n";
}
