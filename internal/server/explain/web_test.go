package explain_test

import (
	"strings"
	"testing"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/server/explain"
)

// TestLogsOfWebServers: a web server's own log is known by its form, and what is understood but says nothing is not
// listed among the lines that are not understood.
func TestLogsOfWebServers(t *testing.T) {
	t.Parallel()
	const log = `203.0.113.20 - - [22/Nov/2026:18:00:00 +0000] "GET / HTTP/1.1" 200 6 "-" "-"
203.0.113.20 - - [22/Nov/2026:18:00:01 +0000] "GET /logo.png HTTP/1.1" 404 153 "-" "-"
203.0.113.66 - - [22/Nov/2026:18:00:02 +0000] "GET /private/ HTTP/1.1" 401 179 "-" "-"
203.0.113.66 - root [22/Nov/2026:18:00:03 +0000] "GET /private/ HTTP/1.1" 401 179 "-" "-"
203.0.113.66 - root [22/Nov/2026:18:00:04 +0000] "GET /private/ HTTP/1.1" 401 179 "-" "-"
203.0.113.66 - - [22/Nov/2026:18:00:05 +0000] "GET /.env HTTP/1.1" 404 153 "-" "-"
what is this
`
	_, sum := explainText(t, strings.NewReader(log), explain.Options{Service: event.HTTP, Summary: true})
	if sum.Lines != 7 || sum.Guesses != 2 || sum.Events != 4 || sum.Unknown != 1 {
		t.Errorf("%+v", sum)
	}
}
