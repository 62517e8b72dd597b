package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
)

// minMinor is the least minor version of the Engine API 1.x that pots can be run with.
const minMinor = 40

// engine asks the Docker Engine how it is set up; it changes nothing. The two requests are plain HTTP
// (docs.docker.com/reference/api/engine), so that no client library is needed to look.
func engine(host string) check {
	return func(ctx context.Context) []event.Finding {
		const subject = "engine"
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var version struct{ Version, APIVersion string }
		if err := askEngine(ctx, host, "/version", &version); err != nil {
			return failed(subject, fmt.Sprintf("the Docker Engine at %s: %s", host, reason(err)), engineMend(err))
		}
		minor, err := strconv.Atoi(strings.TrimPrefix(version.APIVersion, "1."))
		if err != nil || minor < minMinor {
			return failed(subject, fmt.Sprintf("Docker Engine %s speaks API %s, too old", version.Version, version.APIVersion), "use one with API 1.40 or later (Debian 12's docker.io)")
		}
		var info struct {
			LiveRestoreEnabled bool
			SecurityOptions    []string
		}
		if err := askEngine(ctx, host, "/info", &info); err != nil {
			return failed(subject, fmt.Sprintf("the Docker Engine at %s: %s", host, reason(err)), engineMend(err))
		}
		out := ok(subject, "Docker Engine %s answers at %s", version.Version, host)
		if !info.LiveRestoreEnabled {
			out = append(out, warning(subject, "live-restore is off: a restart of the engine ends every pot, and what attackers are doing in them",
				`{"live-restore": true} in /etc/docker/daemon.json, then: systemctl reload docker`)...)
		}
		if !slices.ContainsFunc(info.SecurityOptions, hasName("userns")) {
			out = append(out, warning(subject, "userns-remap is off: root in a pot is root's number on this machine",
				`{"userns-remap": "default"} in /etc/docker/daemon.json, then: systemctl restart docker (containers and images start anew)`)...)
		}
		if !slices.ContainsFunc(info.SecurityOptions, hasName("seccomp")) {
			out = append(out, failed(subject, "it runs containers without seccomp", "use a kernel and an engine with seccomp, as Debian's are")...)
		}
		return out
	}
}

// hasName reports whether a security option, such as "name=seccomp,profile=default", has a name.
func hasName(name string) func(string) bool {
	return func(option string) bool {
		first, _, _ := strings.Cut(option, ",")
		return first == "name="+name
	}
}

func askEngine(ctx context.Context, host, path string, into any) error {
	u, err := url.Parse(host)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	base := "http://" + u.Host
	switch u.Scheme {
	case "unix":
		base = "http://engine"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", u.Path)
		}
	case "https":
		base = "https://" + u.Host
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // only read from
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s to %s", response.Status, path)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 8<<20)).Decode(into); err != nil {
		return fmt.Errorf("its answer to %s is not understood: %w", path, err)
	}
	return nil
}

func reason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "nobody answers"
	case errors.Is(err, fs.ErrPermission):
		return "this user may not use it"
	}
	return err.Error()
}

func engineMend(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "run as root"
	}
	return "systemctl start docker (apt-get install docker.io installs it), or set honeypot.engine"
}
