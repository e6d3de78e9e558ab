# Checks SPF with Mail::SPF: cases and results as in check_spf.py.
use strict;
use warnings;

use JSON::PP;
use Mail::SPF;
use Net::DNS;

package Zone;

sub new { return bless { zone => {}, error => '' }, shift }

sub errorstring { return $_[0]{error} }

# Answers as a name server does that follows aliases.
sub send {
    my ($self, $name, $type) = @_;
    my $packet = Net::DNS::Packet->new('x.example', $type);
    $packet->header->qr(1);
    $self->{error} = '';
    $name = lc $name;
    for (1 .. 9) {
        my $entries = $self->{zone}{$name} || [];
        if (grep { $_->[0] eq '!' } @$entries) {
            $packet->header->rcode('SERVFAIL');
            return $packet;
        }
        my @found = grep { $_->[0] eq $type } @$entries;
        if (@found) {
            $packet->push(answer => map { record($name, @$_) } @found);
            return $packet;
        }
        my ($alias) = grep { $_->[0] eq 'CNAME' } @$entries;
        if (!$alias) {
            $packet->header->rcode('NXDOMAIN') if !@$entries;
            return $packet;
        }
        $packet->push(answer => Net::DNS::RR->new(owner => $name, type => 'CNAME', cname => $alias->[1]));
        $name = lc $alias->[1];
    }
    $packet->header->rcode('SERVFAIL');
    return $packet;
}

sub record {
    my ($name, $type, $value) = @_;
    my %data = $type eq 'TXT' ? (txtdata => [map { bytes($_) } @$value])
        : $type eq 'MX'  ? (preference => $value->[0], exchange => $value->[1])
        : $type eq 'PTR' ? (ptrdname => $value)
        :                  (address => $value);
    return Net::DNS::RR->new(owner => $name, type => $type, %data);
}

# Net::DNS takes text for UTF-8, and a backslash for the beginning of an escape.
sub bytes {
    my ($text) = @_;
    $text =~ s/([^\x20-\x5b\x5d-\x7e])/sprintf('\\%03d', ord $1)/ge;
    return $text;
}

package main;

my $resolver = Zone->new;
my $json = JSON::PP->new->latin1;
my $server = Mail::SPF::Server->new(dns_resolver => $resolver, hostname => 'mx.example', default_authority_explanation => 'DEFAULT');
$| = 1;
while (my $line = <STDIN>) {
    my %answer = (result => 'crash', reason => '', explanation => '');
    eval {
        my $case = $json->decode($line);
        $resolver->{zone} = $case->{zone};
        my $request = Mail::SPF::Request->new(
            versions => [1], scope => 'mfrom', identity => $case->{sender}, ip_address => $case->{ip}, helo_identity => $case->{helo},
        );
        my $result = $server->process($request);
        $answer{result} = $result->code;
        $answer{reason} = $result->text;
        $answer{explanation} = $result->authority_explanation if $result->code eq 'fail';
        1;
    } or $answer{reason} = "$@";
    print $json->ascii->canonical->encode({ map { $_ => "$answer{$_}" } keys %answer }), "\n";
}
