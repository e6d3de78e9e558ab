# Reads Authentication-Results with SpamAssassin's plugin AuthRes, each as the field of a message. Input and output are those of python_authres.py,
# but results are in the order of their methods' names, for the plugin keeps no other.

use strict;
use warnings;
use Mail::SpamAssassin;
use Mail::SpamAssassin::PerMsgStatus;

my $spamassassin = Mail::SpamAssassin->new({
    config_text => "loadplugin Mail::SpamAssassin::Plugin::AuthRes\nauthres_networks all\n",
    dont_copy_prefs => 1,
    local_tests_only => 1,
    userprefs_filename => '/dev/null',
});
$spamassassin->init(0);

local $/ = "\0";
while (my $value = <STDIN>) {
    chomp $value;
    my $message = $spamassassin->parse("Authentication-Results: $value\nFrom: a\@example.com\nSubject: x\n\nHello\n");
    my $status = Mail::SpamAssassin::PerMsgStatus->new($spamassassin, $message);
    $status->extract_message_metadata();
    my $parsed = $status->{authres_parsed};
    my @words;
    for my $method (sort keys %$parsed) {
        for my $result (@{$parsed->{$method}}) {
            @words = ($result->{authserv}) if !@words;
            push @words, "$method=$result->{result}";
            my $properties = $result->{properties}{header};
            push @words, "header.$_=$properties->{$_}" for grep { defined $properties->{$_} } qw(d from);
        }
    }
    print @words ? "@words\n" : "error nothing was read\n";
    $status->finish();
    $message->finish();
}
