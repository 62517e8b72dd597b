package cowrie_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/intel/cowrie"
)

// schema are the fields of each event and their types in JSON, as Cowrie's output has them; base is in all.
func schema() (base map[string]string, of map[string]map[string]string) {
	base = map[string]string{
		"eventid": "string", "message": "string", "sensor": "string", "uuid": "string", "timestamp": "string", "session": "string",
		"src_ip": "string", "protocol": "string", "src_port": "int", "dst_ip": "string", "dst_port": "int",
	}
	return base, map[string]map[string]string{
		"session.connect":         {},
		"session.closed":          {"duration_ms": "int", "duration": "string"},
		"session.file_download":   {"outfile": "string", "shasum": "string", "destfile": "string", "duplicate": "bool"},
		"session.file_upload":     {"filename": "string", "outfile": "string", "shasum": "string"},
		"session.file_upload/scp": {"filename": "string", "outfile": "string", "shasum": "string", "url": "string", "destfile": "string", "duplicate": "bool"},
		"client.version":          {"version": "string"},
		"client.kex": {
			"hassh": "string", "hasshAlgorithms": "string", "kexAlgs": "strings", "keyAlgs": "strings", "encCS": "strings",
			"macCS": "strings", "compCS": "strings", "langCS": "strings",
		},
		"client.fingerprint":      {"username": "string", "fingerprint": "string", "key": "string", "type": "string"},
		"client.size":             {"width": "int", "height": "int"},
		"client.var":              {"name": "string", "value": "string"},
		"client.malformed_packet": {"messagenum": "int", "datalen": "int", "data": "string"},
		"login.success":           {"username": "string", "password": "string"},
		"login.failed":            {"username": "string", "password": "string"},
		"login.failed/key":        {"username": "string", "password": "string", "fingerprint": "string", "key": "string", "type": "string"},
		"command.input":           {"input": "string"},
		"log.open":                {"ttylog": "string"},
		"log.closed":              {"ttylog": "string", "size": "int", "shasum": "string", "duplicate": "bool", "duration_ms": "int"},
		"direct-tcpip.request":    {"orig_ip": "string", "orig_port": "int"},

		"session.file_download/url":        {"url": "string", "outfile": "string", "shasum": "string", "destfile": "string", "duplicate": "bool"},
		"session.file_download.failed/url": {"url": "string", "error": "string"},
		"direct-tcpip.data":                {"data": "string", "id": "int"},
	}
}

func session() event.Session {
	return event.Session{
		ID: "0123456789ab", Node: "node1", Host: "web", Attacker: netip.MustParsePrefix("203.0.113.66/32"),
		Peer: netip.MustParseAddrPort("198.51.100.10:4022"), Target: netip.MustParseAddrPort("203.0.113.10:22"),
		StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
	}
}

func evidence() []event.Evidence {
	at := session().StartedAt.Add(1500 * time.Millisecond)
	list := []event.Evidence{
		{Client: &event.Client{Version: "SSH-2.0-Go", HASSH: "h", KEX: []event.Bytes{"a", "b"}, HostKeys: []event.Bytes{"k"}, Ciphers: []event.Bytes{"c"}, MACs: []event.Bytes{"m"}, Compress: []event.Bytes{"none"}}},
		{Key: &event.Key{Account: "root", Type: "ssh-ed25519", MD5: "aa:bb", Fingerprint: "SHA256:x", Key: "ssh-ed25519 AAAA"}},
		{Login: &event.Login{Account: "root", Password: "a", Method: "password"}},
		{Login: &event.Login{Account: "root\x00\\ü\xff", Password: "b\n", Method: "password", Success: true}},
		{Variable: &event.Variable{Name: "LANG", Value: "C"}},
		{Channel: 1, Start: &event.Start{What: "shell", Term: "xterm", Width: 80, Height: 24}},
		{Channel: 1, Size: &event.Size{Width: 100, Height: 30}},
		{Channel: 1, Kind: event.EvidenceInput, Input: "id"},
		{Channel: 1, Exit: &event.Exit{}},
		{Channel: 2, Start: &event.Start{What: "exec", Command: "uname -a"}},
		{Channel: 2, File: &event.File{How: "stdin", SHA256: "s", Size: 3}},
		{Channel: 3, File: &event.File{How: "sftp", Path: "/tmp/a", SHA256: "s", Size: 3}},
		{Channel: 4, File: &event.File{How: "scp", Path: "/tmp/b", SHA256: "s", Size: 3}},
		{Channel: 5, Forward: &event.Forward{What: "direct-tcpip", Destination: "192.0.2.1", Port: 80, Origin: "127.0.0.1", OriginPort: 5}},
		{Egress: &event.Egress{What: "name", Name: "evil.com", Type: "A"}},
		{Egress: &event.Egress{What: "request", URL: "http://evil.com/x", How: "sinkhole", Status: 200}},
		{Egress: &event.Egress{What: "request", URL: "http://evil.com/y", How: "fetched", Status: 200}},
		{File: &event.File{How: "fetched", URL: "http://evil.com/y", SHA256: "s", Size: 3}},
		{Egress: &event.Egress{What: "connect", Destination: netip.MustParseAddrPort("45.32.1.2:6667"), Invented: true, Name: "irc.evil.com", Data: "NICK \x00'\r\n"}},
		{Kind: event.EvidenceMalformed, Data: event.Bytes(strings.Repeat("\x00", 300))},
		{Kind: event.EvidenceClosed, Reason: "attacker closed"},
	}
	for i := range list {
		list[i].At, list[i].Number, list[i].Session = at, i+1, session().ID
	}
	return list
}

func kindOf(t *testing.T, v any) string {
	t.Helper()
	switch v := v.(type) {
	case string:
		return "string"
	case bool:
		return "bool"
	case json.Number:
		_, err := v.Int64()
		require.NoError(t, err)
		return "int"
	case []any:
		for _, e := range v {
			require.IsType(t, "", e)
		}
		return "strings"
	}
	return "other"
}

func decoded(t require.TestingT, e cowrie.Event) map[string]any {
	line, err := json.Marshal(e)
	require.NoError(t, err)
	require.NotContains(t, string(line), "\n")
	dec := json.NewDecoder(strings.NewReader(string(line)))
	dec.UseNumber()
	var out map[string]any
	require.NoError(t, dec.Decode(&out))
	return out
}

func TestFieldsAreCowries(t *testing.T) {
	base, of := schema()
	seen := map[string]bool{}
	for _, e := range (cowrie.Renderer{UUID: "u"}).Session(session(), evidence(), map[uint32]cowrie.Log{1: {SHA256: "x", Size: 9}}) {
		got := decoded(t, e)
		name := strings.TrimPrefix(got["eventid"].(string), "cowrie.")
		if _, url := got["url"]; url && name == "session.file_upload" {
			name += "/scp"
		} else if url {
			name += "/url"
		}
		if _, key := got["key"]; key && name == "login.failed" {
			name += "/key"
		}
		seen[name] = true
		want := maps.Clone(base)
		maps.Copy(want, of[name])
		have := map[string]string{}
		for field, v := range got {
			have[field] = kindOf(t, v)
		}
		assert.Equal(t, want, have, name)
		assert.Equal(t, "0123456789ab", got["session"])
		assert.Equal(t, "node1", got["sensor"])
		assert.Equal(t, "ssh", got["protocol"])
		assert.NotEmpty(t, got["message"])
	}
	assert.Equal(t, slices.Sorted(maps.Keys(of)), slices.Sorted(maps.Keys(seen)), "each event is there")
}

func TestWhatConsumersRelyOn(t *testing.T) {
	all := (cowrie.Renderer{Sensor: "s"}).Session(session(), evidence(), nil)
	assert.Equal(t, "cowrie.session.connect", all[0]["eventid"], "hpfeeds needs it first")
	assert.Equal(t, "New connection: 203.0.113.66:4022 (203.0.113.10:22) [session: 0123456789ab]", all[0]["message"], "CrowdSec reads it")
	assert.Equal(t, "2026-01-02T03:04:05.000006Z", all[0]["timestamp"])
	last := all[len(all)-1]
	assert.Equal(t, "cowrie.session.closed", last["eventid"])
	assert.Equal(t, 1500, last["duration_ms"])
	assert.Equal(t, "1.5", last["duration"], "T-Pot reads it")
	for _, e := range all {
		if strings.HasPrefix(e["eventid"].(string), "cowrie.login.") {
			assert.Contains(t, e, "password")
		}
		if e["eventid"] == "cowrie.login.success" {
			assert.Equal(t, `root\x00\\ü\xff`, e["username"])
			assert.Equal(t, `b\x0a`, e["password"])
		}
		if e["eventid"] == "cowrie.client.kex" {
			assert.Equal(t, "a,b;c;m;none", e["hasshAlgorithms"])
		}
		if e["eventid"] == "cowrie.client.malformed_packet" {
			assert.Len(t, e["data"], 512)
			assert.Equal(t, 300, e["datalen"])
		}
	}
}

func TestHashesStandForPasswordsThatAreNotKept(t *testing.T) {
	e := (cowrie.Renderer{}).Events(session(), event.Evidence{Login: &event.Login{Account: "a", Hash: "$6$x"}})
	assert.Equal(t, "$6$x", e[0]["password"])
}

func TestResponsesStandForPasswordsThatWereNotSent(t *testing.T) {
	e := (cowrie.Renderer{}).Events(session(), event.Evidence{Login: &event.Login{Account: "a", Response: "$mysqlna$00*ff"}})
	assert.Equal(t, "$mysqlna$00*ff", e[0]["password"])
	assert.Equal(t, "login attempt [a/$mysqlna$00*ff] failed", e[0]["message"])
}

func TestIPv6AndUnknownTargets(t *testing.T) {
	s := session()
	s.Target = netip.AddrPort{}
	s.Attacker = netip.MustParsePrefix("2001:db8::/64")
	e := (cowrie.Renderer{}).Connect(s)
	assert.Equal(t, "2001:db8::", e["src_ip"])
	assert.Equal(t, "::", e["dst_ip"])
}

func TestCommandsAreToldAsTheyWereTyped(t *testing.T) {
	for in, want := range map[event.Bytes]string{
		`printf '\x7fELF\n' > /tmp/a`: `printf '\x7fELF\n' > /tmp/a`,
		"cd /tmp\n\tid":               "cd /tmp\n\tid",
		"a\x1b[2J\xff\u202eb":         `a\x1b[2J\xff\xe2\x80\xaeb`,
		`C:\ü`:                        `C:\ü`,
	} {
		for _, v := range []event.Evidence{{Kind: event.EvidenceInput, Input: in}, {Start: &event.Start{What: "exec", Command: in}}} {
			e := (cowrie.Renderer{}).Events(session(), v)
			assert.Equal(t, want, e[0]["input"])
			assert.Equal(t, "CMD: "+want, e[0]["message"])
		}
		e := (cowrie.Renderer{}).Events(session(), event.Evidence{Variable: &event.Variable{Name: "A", Value: in}})
		assert.Equal(t, want, e[0]["value"])
	}
}

// Whatever an attacker says, an event is one line of JSON whose strings hold no control character but those that
// part words and lines.
func TestHostileBytesStayInTheirPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := event.Bytes(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		for _, v := range []event.Evidence{
			{Client: &event.Client{Version: b, HASSH: "h", KEX: []event.Bytes{b}, Language: []event.Bytes{b}}},
			{Login: &event.Login{Account: b, Password: b}},
			{Key: &event.Key{Account: b}},
			{Variable: &event.Variable{Name: b, Value: b}},
			{Start: &event.Start{What: "exec", Command: b}},
			{Kind: event.EvidenceInput, Input: b},
			{File: &event.File{How: "scp", Path: b}},
			{Forward: &event.Forward{What: "direct-tcpip", Destination: b, Origin: b}},
			{File: &event.File{How: "fetched", URL: b, Path: b}},
			{Egress: &event.Egress{What: "request", URL: b, Method: b, How: "sinkhole"}},
			{Egress: &event.Egress{What: "connect", Name: b, Invented: true, Data: b}},
			{Kind: event.EvidenceMalformed, Data: b},
		} {
			for _, e := range (cowrie.Renderer{}).Events(session(), v) {
				for field, value := range decoded(t, e) {
					if text, ok := value.(string); ok {
						for _, r := range text {
							require.True(t, (r >= ' ' || r == '\t' || r == '\n') && r != 0x7f && r != '\u202e' && r != '\u2066', "%s: %q", field, text)
						}
					}
				}
			}
		}
	})
}

// Of what a pot did the address that our resolver made up is nobody's, and the name is what others can use.
func TestCallsAreToldByName(t *testing.T) {
	at := netip.MustParseAddrPort("45.32.1.2:6667")
	e := (cowrie.Renderer{}).Events(session(), event.Evidence{Egress: &event.Egress{What: "connect", Destination: at, Name: "irc.evil.com", Invented: true, Data: "NICK '\\\x00\r\n"}})
	require.Len(t, e, 2)
	assert.Equal(t, "irc.evil.com", e[0]["dst_ip"])
	assert.Equal(t, 6667, e[0]["dst_port"])
	assert.Equal(t, `b'NICK \'\\\x00\r\n'`, e[1]["data"])
	e = (cowrie.Renderer{}).Events(session(), event.Evidence{Egress: &event.Egress{What: "connect", Destination: at, Name: "irc.evil.com"}})
	require.Len(t, e, 1)
	assert.Equal(t, "45.32.1.2", e[0]["dst_ip"])
	e = (cowrie.Renderer{}).Events(session(), event.Evidence{Egress: &event.Egress{What: "request", URL: "http://evil.com/x.sh", How: "sinkhole"}})
	require.Len(t, e, 1)
	assert.Equal(t, "cowrie.session.file_download.failed", e[0]["eventid"])
	assert.Equal(t, "http://evil.com/x.sh", e[0]["url"])
}
