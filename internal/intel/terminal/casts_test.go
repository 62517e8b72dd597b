package terminal_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/intel/asciicast"
	"github.com/kokkuri/kokkuri/internal/intel/terminal"
	"github.com/kokkuri/kokkuri/internal/intel/ttylog"
	"github.com/kokkuri/kokkuri/internal/recording"
)

type step struct {
	kind    recording.Kind
	channel uint32
	at      time.Duration
	data    string
	note    *event.Evidence
}

// recorded makes a recording; its end is missing where cut.
func recorded(t require.TestingT, cut bool, steps ...step) []byte {
	b, err := recording.EncodeHeader(recording.Header{
		Session: "0123456789ab", Host: "web", Attacker: netip.MustParsePrefix("203.0.113.66/32"), StartedAt: time.Unix(1_700_000_000, 0),
	})
	require.NoError(t, err)
	for _, s := range steps {
		payload := []byte(s.data)
		if s.note != nil {
			s.kind = recording.Note
			payload, err = json.Marshal(s.note)
			require.NoError(t, err)
		}
		b = recording.AppendFrame(b, recording.Frame{Kind: s.kind, Channel: s.channel, Offset: s.at, Payload: payload})
	}
	if !cut {
		b = recording.AppendFrame(b, recording.Frame{Kind: recording.End})
	}
	return b
}

func shell(t require.TestingT, cut bool) *recording.Reader {
	r, err := recording.NewReader(bytes.NewReader(recorded(
		t, cut,
		step{channel: 1, at: time.Second, note: &event.Evidence{Kind: event.EvidenceStart, Start: &event.Start{What: "exec", Command: "true"}}},
		step{channel: 2, at: 2 * time.Second, note: &event.Evidence{Kind: event.EvidenceStart, Start: &event.Start{What: "shell", Term: "xterm", Width: 100, Height: 30}}},
		step{kind: recording.Out, channel: 1, at: 2 * time.Second, data: "not here"},
		step{kind: recording.Out, channel: 2, at: 2500 * time.Millisecond, data: "$ \xc3"},
		step{kind: recording.In, channel: 2, at: 3 * time.Second, data: "\x1b[A\r"},
		step{kind: recording.Out, channel: 2, at: 3 * time.Second, data: "\xbc\xff"},
		step{channel: 2, at: 4 * time.Second, note: &event.Evidence{Kind: event.EvidenceSize, Size: &event.Size{Width: 120, Height: 40}}},
		step{kind: recording.Err, channel: 2, at: 5 * time.Second, data: "\xe2\x82"},
	)))
	require.NoError(t, err)
	return r
}

func TestAsciicast(t *testing.T) {
	for _, cut := range []bool{false, true} {
		var out strings.Builder
		require.NoError(t, asciicast.Write(&out, shell(t, cut), 2))
		assert.Equal(t, `{"version":2,"width":100,"height":30,"timestamp":1700000002,"title":"203.0.113.66/32 on web, session 0123456789ab","env":{"TERM":"xterm"}}
[0.500000,"o","$ "]
[1.000000,"i","\u001b[A\r"]
[1.000000,"o","ü`+"\ufffd"+`"]
[2.000000,"r","120x40"]
[3.000000,"o","`+"\ufffd\ufffd"+`"]
`, out.String())
	}
}

func TestTheFirstProgramIsTheOneWithoutAChannel(t *testing.T) {
	var out strings.Builder
	require.NoError(t, asciicast.Write(&out, shell(t, false), 0))
	assert.Contains(t, out.String(), `"width":80,"height":24`)
	assert.Contains(t, out.String(), `"command":"true"`)
	assert.Contains(t, out.String(), "not here")
}

func TestNothingToShow(t *testing.T) {
	for _, channel := range []uint32{0, 9} {
		r, err := recording.NewReader(bytes.NewReader(recorded(t, false, step{kind: recording.Out, data: "x"})))
		require.NoError(t, err)
		require.ErrorIs(t, asciicast.Write(&strings.Builder{}, r, channel), terminal.ErrNothing)
		require.ErrorIs(t, ttylog.Write(&strings.Builder{}, shell(t, false), 9), terminal.ErrNothing)
	}
}

func TestTTYLog(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, ttylog.Write(&out, shell(t, false), 2))
	type rec struct {
		Op                 int32
		TTY                uint32
		Length, Direction  int32
		Seconds, Microsecs uint32
	}
	var got []string
	var ops []int32
	for out.Len() > 0 {
		var r rec
		require.NoError(t, binary.Read(&out, binary.LittleEndian, &r))
		got = append(got, string(out.Next(int(r.Length))))
		ops = append(ops, r.Op, r.Direction)
		assert.GreaterOrEqual(t, r.Seconds, uint32(1_700_000_002))
	}
	assert.Equal(t, []string{"", "", "$ \xc3", "\x1b[A\r", "\xbc\xff", "\xe2\x82", ""}, got)
	assert.Equal(t, []int32{1, 0, 3, 2, 3, 2, 3, 1, 3, 2, 3, 2, 2, 0}, ops)
}

func FuzzAsciicast(f *testing.F) {
	f.Add([]byte("$ \xc3\xbc\x1b]0;x\a"), []byte("\xff"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		r, err := recording.NewReader(bytes.NewReader(recorded(
			t, false, step{channel: 1, note: &event.Evidence{Start: &event.Start{What: "shell", Term: event.Bytes(one)}}},
			step{kind: recording.Out, channel: 1, data: string(one)}, step{kind: recording.Out, channel: 1, data: string(two)})))
		require.NoError(t, err)
		var out strings.Builder
		require.NoError(t, asciicast.Write(&out, r, 0))
		shown := ""
		var shownSb130 strings.Builder
		for i, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			var v any
			require.NoError(t, json.Unmarshal([]byte(line), &v))
			if i > 0 {
				shownSb130.WriteString(v.([]any)[2].(string))
			}
		}
		shown += shownSb130.String()
		require.Equal(t, strings.ToValidUTF8(shown, ""), shown)
		want := ""
		var wantSb139 strings.Builder
		for _, r := range string(append(append([]byte{}, one...), two...)) {
			wantSb139.WriteString(string(r))
		}
		want += wantSb139.String()
		require.Equal(t, want, shown)
	})
}
