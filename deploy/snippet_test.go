package deploy_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/deploy"
)

// TestShippedIsRendered: the snippet that is shipped as a file is what the command prints.
func TestShippedIsRendered(t *testing.T) {
	t.Parallel()
	shipped, err := deploy.Rsyslog.ReadFile("rsyslog/kokkuri.conf")
	require.NoError(t, err)
	made, err := deploy.RsyslogConfig(deploy.Snippet{Server: deploy.ExampleServer, Port: 10514, Protocol: deploy.TCP})
	require.NoError(t, err)
	assert.Equal(t, string(made), string(shipped), "write it anew: kokkuri rsyslog-config --tcp --server kokkuri.example.net:10514 > deploy/rsyslog/kokkuri.conf")
}

func TestNothingBreaksOutOfTheSnippet(t *testing.T) {
	t.Parallel()
	for _, s := range []deploy.Snippet{{Server: `a" type="omprog`}, {Server: "a", Host: "x\n*.* /dev/null"}, {Server: "a", Dir: "/etc/a b"}} {
		_, err := deploy.RsyslogConfig(s)
		require.ErrorIs(t, err, deploy.ErrSnippet)
	}
}
