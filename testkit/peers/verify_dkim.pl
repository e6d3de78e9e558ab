# Verifies DKIM with Mail::DKIM: cases and results as in verify_dkim.py.
use strict;
use warnings;

use JSON::PP;
use MIME::Base64;
use Mail::DKIM::DNS;
use Mail::DKIM::Verifier;

my %keys;

package Text;

sub new { my ($class, $text) = @_; return bless { text => $text }, $class }

sub type { return 'TXT' }

sub txtdata { return ($_[0]{text}) }

sub char_str_list { return ($_[0]{text}) }

package main;

{
    no warnings 'redefine';
    *Mail::DKIM::DNS::query = sub {
        my ($name) = @_;
        $name = lc $name;
        return exists $keys{$name} ? (Text->new($keys{$name})) : ();
    };
    *Mail::DKIM::DNS::query_async = sub {
        my ($name, $type, %options) = @_;
        my @found = Mail::DKIM::DNS::query($name, $type);
        my $success = $options{Callbacks}{Success} || sub { $_[0] };
        my $result = $success->(@found);
        return sub { return $result };
    };
}

my $json = JSON::PP->new->latin1;
$| = 1;
while (my $line = <STDIN>) {
    my $case = $json->decode($line);
    %keys = %{ $case->{keys} };
    my @results;
    eval {
        my $verifier = Mail::DKIM::Verifier->new;
        $verifier->PRINT(decode_base64($case->{message}));
        $verifier->CLOSE;
        for my $signature ($verifier->signatures) {
            my $result = $signature->result || 'none';
            push @results, $result eq 'pass' ? 'pass' : ($signature->result_detail || $result);
        }
        1;
    } or push @results, "crash: $@";
    print $json->ascii->encode([map { "$_" } @results]), "\n";
}
