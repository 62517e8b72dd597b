package recording_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/recording"
)

func header() recording.Header {
	return recording.Header{
		Session: "0123456789ab", Node: "node", Host: "web", Service: event.SSH, Attacker: netip.MustParsePrefix("203.0.113.66/32"),
		Peer: netip.MustParseAddrPort("198.51.100.10:4022"), Target: netip.MustParseAddrPort("203.0.113.10:22"), StartedAt: time.Unix(1, 2).UTC(),
	}
}

func encode(t require.TestingT, frames ...recording.Frame) []byte {
	b, err := recording.EncodeHeader(header())
	require.NoError(t, err)
	for _, f := range frames {
		b = recording.AppendFrame(b, f)
	}
	return b
}

func TestFramesAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kinds := rapid.SampledFrom([]recording.Kind{recording.In, recording.Out, recording.Err, recording.Note, recording.Truncated})
		frames := rapid.SliceOf(rapid.Custom(func(t *rapid.T) recording.Frame {
			return recording.Frame{
				Kind: kinds.Draw(t, "kind"), Channel: rapid.Uint32().Draw(t, "channel"),
				Offset:  time.Duration(rapid.Int64Min(0).Draw(t, "offset")),
				Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload"),
			}
		})).Draw(t, "frames")
		data := encode(t, append(frames, recording.Frame{Kind: recording.End, Payload: []byte("end")})...)
		r, err := recording.NewReader(bytes.NewReader(data))
		require.NoError(t, err)
		require.Equal(t, header(), r.Header())
		for i, want := range frames {
			at := r.Position()
			got, err := r.Next()
			require.NoError(t, err)
			require.Equal(t, string(want.Payload), string(got.Payload), "frame %d", i)
			require.Equal(t, []any{want.Kind, want.Channel, want.Offset}, []any{got.Kind, got.Channel, got.Offset})
			again, err := recording.Continue(bytes.NewReader(data[at:]), at).Next()
			require.NoError(t, err, "whoever knows the position can go on there")
			require.Equal(t, string(want.Payload), string(again.Payload))
		}
		end, err := r.Next()
		require.NoError(t, err)
		require.Equal(t, recording.End, end.Kind)
		require.Equal(t, int64(len(data)), r.Position())
		_, err = r.Next()
		require.ErrorIs(t, err, io.EOF)
	})
}

func TestWhatWasCutOffIsValidUpToTheCut(t *testing.T) {
	data := encode(t, recording.Frame{Kind: recording.In, Payload: []byte("one")}, recording.Frame{Kind: recording.In, Payload: []byte("two")})
	for cut := 1; cut < recording.FrameHead+3; cut++ {
		r, err := recording.NewReader(bytes.NewReader(data[:len(data)-cut]))
		require.NoError(t, err)
		f, err := r.Next()
		require.NoError(t, err)
		assert.Equal(t, "one", string(f.Payload))
		_, err = r.Next()
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "cut by %d", cut)
	}
}

func TestNotesAreEvidence(t *testing.T) {
	want := event.Evidence{Session: "s", Number: 3, At: time.Unix(9, 0).UTC(), Kind: event.EvidenceInput, Channel: 2, Input: "rm\x00 \\ \u202e\xff"}
	payload, err := json.Marshal(want)
	require.NoError(t, err)
	got, err := recording.Frame{Kind: recording.Note, Payload: payload}.Evidence()
	require.NoError(t, err)
	assert.Equal(t, want, got)
	_, err = recording.Frame{Kind: recording.In, Payload: payload}.Evidence()
	require.ErrorIs(t, err, recording.ErrFormat)
	_, err = recording.Frame{Kind: recording.Note, Payload: []byte("{")}.Evidence()
	require.ErrorIs(t, err, recording.ErrFormat)
}

func FuzzReader(f *testing.F) {
	data := encode(f, recording.Frame{Kind: recording.In, Payload: []byte("hello")}, recording.Frame{Kind: recording.Note, Payload: []byte(`{"kind":"login"}`)},
		recording.Frame{Kind: recording.End, Payload: []byte("end")})
	f.Add(data)
	f.Add(data[:len(data)-3])
	f.Add([]byte("KKREC2\r\n\x00\x00\x00\x02{}i"))
	f.Add([]byte("KKREC2\r\n\xff\xff\xff\xff"))
	f.Add(append(data, data...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := recording.NewReader(bytes.NewReader(data))
		if err != nil {
			require.ErrorIs(t, err, recording.ErrFormat)
			return
		}
		total := 0
		for {
			fr, err := r.Next()
			if err != nil {
				ok := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, recording.ErrFormat)
				require.True(t, ok, "%v", err)
				break
			}
			require.GreaterOrEqual(t, fr.Offset, time.Duration(0))
			_, _ = fr.Evidence()
			total += len(fr.Payload)
		}
		require.LessOrEqual(t, total, len(data))
	})
}
