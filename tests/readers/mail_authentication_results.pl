# Reads Authentication-Results with Mail::AuthenticationResults. Input and output are those of python_authres.py.

use strict;
use warnings;
use Mail::AuthenticationResults::Parser;

local $/ = "\0";
while (my $value = <STDIN>) {
    chomp $value;
    my $line = eval {
        my $header = Mail::AuthenticationResults::Parser->new()->parse($value);
        my @words = ($header->value()->value());
        for my $entry (@{$header->children()}) {
            next if ref($entry) =~ /::Comment$/;
            push @words, $entry->key() . '=' . $entry->value();
            for my $part (@{$entry->children()}) {
                push @words, $part->key() . '=' . $part->value() if ref($part) =~ /::SubEntry$/ && $part->key() =~ /^header\.(?:d|from)$/;
            }
        }
        join ' ', @words;
    } // "error $@";
    $line =~ s/\n/ /g;
    print "$line\n";
}
