package collect

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	dockerSocket = "/var/run/docker.sock"
	speakerImage = "kokkuri-test/speaker"
)

// engine is the machine's Docker Engine.
type engine struct {
	t      *testing.T
	client http.Client
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{t: t, client: http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", dockerSocket)
		},
	}}}
	e.image()
	return e
}

// call asks the engine, which must be up (scripts/deps.sh test starts one).
func (e *engine) call(method, path string, body io.Reader, contentType string, answer any) int {
	e.t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(e.t.Context()), method, "http://engine/v1.40"+path, body)
	require.NoError(e.t, err)
	req.Header.Set("Content-Type", contentType)
	resp, err := e.client.Do(req)
	require.NoError(e.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(e.t, err)
	if answer != nil {
		require.NoError(e.t, json.Unmarshal(text, answer), "%s %s: %s", method, path, text)
	}
	return resp.StatusCode
}

// image makes an image with nothing in it but the speaker.
func (e *engine) image() {
	e.t.Helper()
	program := filepath.Join(e.t.TempDir(), "speaker")
	cmd := exec.CommandContext(e.t.Context(), "go", "build", "-o", program, "./testdata/speaker")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(e.t, err, string(out))
	content, err := os.ReadFile(program)
	require.NoError(e.t, err)
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	require.NoError(e.t, w.WriteHeader(&tar.Header{Name: "speaker", Mode: 0o755, Size: int64(len(content))}))
	_, err = w.Write(content)
	require.NoError(e.t, err)
	require.NoError(e.t, w.Close())
	require.Equal(e.t, http.StatusOK, e.call(http.MethodPost, "/images/create?fromSrc=-&repo="+speakerImage+"&tag=latest", &archive, "application/x-tar", nil))
}

// run starts a container that writes lines; it is removed with the test.
func (e *engine) run(name, driver string, args ...string) (id string) {
	e.t.Helper()
	config := map[string]any{
		"Image": speakerImage + ":latest", "Cmd": append([]string{"/speaker"}, args...),
		"HostConfig": map[string]any{"NetworkMode": "none", "LogConfig": map[string]any{"Type": driver}},
	}
	if driver == "json-file" {
		config["HostConfig"].(map[string]any)["LogConfig"].(map[string]any)["Config"] = map[string]string{"max-size": "60k", "max-file": "12"}
	}
	body, err := json.Marshal(config)
	require.NoError(e.t, err)
	var made struct {
		ID string `json:"Id"`
	}
	require.Equal(e.t, http.StatusCreated, e.call(http.MethodPost, "/containers/create?name="+url.QueryEscape(name), bytes.NewReader(body), "application/json", &made))
	e.t.Cleanup(func() { e.remove(made.ID) })
	require.Equal(e.t, http.StatusNoContent, e.call(http.MethodPost, "/containers/"+made.ID+"/start", nil, "", nil))
	return made.ID
}

func (e *engine) wait(id string) {
	e.t.Helper()
	require.Equal(e.t, http.StatusOK, e.call(http.MethodPost, "/containers/"+id+"/wait", nil, "", nil))
}

func (e *engine) remove(id string) {
	e.t.Helper()
	e.call(http.MethodDelete, "/containers/"+id+"?force=1", nil, "", nil)
}

// spoken is what containers write from one line to another, each stream by itself.
func spoken(from, to int) (out []string) {
	for stream := range 2 {
		for i := from; i < to; i++ {
			if i%2 == stream {
				out = append(out, fmt.Sprintf("line %d", i))
			}
		}
	}
	return out
}

// byStream sorts what arrived by stream; long lines are checked and shortened.
func byStream(t *testing.T, lines []string) []string {
	t.Helper()
	var streams [2][]string
	for _, m := range messages(lines) {
		text := m
		if strings.Contains(m, " long") {
			i := strings.Index(m, " long")
			require.Equal(t, strings.Repeat(" long", 5000)[:maxText-i], m[i:])
			text = m[:i]
		}
		var n int
		_, err := fmt.Sscanf(text, "line %d", &n)
		require.NoError(t, err, text)
		streams[n%2] = append(streams[n%2], text)
	}
	return append(streams[0], streams[1]...)
}

func TestContainers(t *testing.T) {
	t.Parallel()
	e, s := newEngine(t), &stream{}
	name := "kokkuri-test-" + newNonce()
	before := e.run(name, "json-file", "0", "10", "0s")
	e.wait(before)
	o := Options{
		StateDir: t.TempDir(), Publish: s.publish, DockerSocket: dockerSocket,
		Containers: []Container{{Name: name, Format: Plain("soft")}, {Name: name + "-other-*", Format: Plain("soft")}},
	}
	_, stop := begun(t, o)
	stateExists(t, o.StateDir, "containers.json")
	arrive := func(want []string) {
		t.Helper()
		require.Eventually(t, func() bool { return len(s.got()) >= len(want) }, time.Minute, 10*time.Millisecond)
		require.Equal(t, want, byStream(t, s.got()))
	}
	// Another one under the same name.
	e.remove(before)
	second := e.run(name, "json-file", "100", "300", "1ms")
	arrive(spoken(100, 300))
	require.Contains(t, s.got()[0], ` web soft - - [kokkuri@32473 file="container `+name+`"] line `)

	// One that came and ended while the collector was away, and one that goes on.
	e.wait(second)
	stop()
	e.wait(e.run(name+"-other-1", "json-file", "300", "400", "0s"))
	require.Equal(t, http.StatusNoContent, e.call(http.MethodPost, "/containers/"+second+"/restart", nil, "", nil))
	e.wait(second)
	_, stop = begun(t, o)
	require.Eventually(t, func() bool { return len(s.got()) >= 500 }, time.Minute, 10*time.Millisecond)
	stop()
	require.Len(t, s.got(), 500)
	count := map[string]int{}
	for _, l := range byStream(t, s.got()) {
		count[l]++
	}
	require.Equal(t, 2, count["line 100"])
	require.Equal(t, 1, count["line 399"])

	// A driver whose log nobody else can read.
	e.run(name+"-other-2", "none", "0", "1", "0s")
	c, _ := begun(t, o)
	require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, 10*time.Millisecond)
	require.Contains(t, c.Findings()[0].Text, "log driver none")
}

func TestContainersWithoutEngine(t *testing.T) {
	t.Parallel()
	c, _ := begun(t, Options{
		StateDir: t.TempDir(), Publish: (&stream{}).publish, DockerSocket: filepath.Join(t.TempDir(), "no.sock"),
		Containers: []Container{{Name: "web", Format: Plain("soft")}},
	})
	require.Eventually(t, func() bool { return len(c.Findings()) == 1 }, time.Minute, 10*time.Millisecond)
	require.Contains(t, c.Findings()[0].Mend, "agent.docker_socket")
}

// TestContainersKilled kills the collector again and again while a container writes and Docker rotates its log.
func TestContainersKilled(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	name := "kokkuri-test-" + newNonce()
	k := newKilled(t, childSetup{Container: name})
	k.launch()
	stateExists(t, k.state, "containers.json")
	id := e.run(name, "json-file", "0", "1000", "2ms")
	for range 20 {
		k.again(200 * time.Millisecond)
	}
	e.wait(id)
	k.holds(spoken(0, 1000), func(lines []string) []string { return byStream(t, lines) })
}
