package cli

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/kokkuri/kokkuri/internal/api"
	"github.com/kokkuri/kokkuri/internal/cli/replay"
	"github.com/kokkuri/kokkuri/internal/config"
	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/intel/asciicast"
	"github.com/kokkuri/kokkuri/internal/intel/cowrie"
	"github.com/kokkuri/kokkuri/internal/intel/pcapng"
	"github.com/kokkuri/kokkuri/internal/intel/ttylog"
	"github.com/kokkuri/kokkuri/internal/recording"
)

// tape is which program of a session is meant.
type tape struct {
	idArg

	Channel uint32 `help:"Which of the session's programs, by its number in sessions show; without it the first." placeholder:"N"`
}

// recording fetches a session's recording into a file that is gone when it is closed: it may be large.
func (a *app) recording(ctx context.Context, server *api.Client, id string) (*os.File, error) {
	f, err := os.CreateTemp("", "kokkuri-recording-")
	if err != nil {
		return nil, fmt.Errorf("make a temporary file: %w", err)
	}
	_ = os.Remove(f.Name())
	if err := server.Recording(ctx, id, f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, rewind(f)
}

func rewind(f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the recording: %w", err)
	}
	return nil
}

func reader(f *os.File) (*recording.Reader, error) {
	if err := rewind(f); err != nil {
		return nil, err
	}
	r, err := recording.NewReader(bufio.NewReaderSize(f, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	return r, nil
}

type sessionsReplayCmd struct {
	tape

	Speed   float64         `default:"1" help:"How many times faster." placeholder:"N"`
	MaxIdle config.Duration `default:"2s" help:"Longer pauses are cut to this; 0: none is cut." placeholder:"DURATION"`
	Search  string          `help:"Begin where this text appears." placeholder:"TEXT"`
}

func (c *sessionsReplayCmd) Run(ctx context.Context, a *app) error {
	if c.Speed <= 0 || c.Speed > 1000 {
		return &usageError{text: fmt.Sprintf("--speed: found %g", c.Speed), hint: "allowed: more than 0, to 1000"}
	}
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	f, err := a.recording(ctx, server, c.ID)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // a temporary file
	r, err := reader(f)
	if err != nil {
		return err
	}
	t, err := replay.Load(r, c.Channel, c.MaxIdle.Std())
	if err != nil {
		return fmt.Errorf("replay session %s: %w", c.ID, err)
	}
	screen, ok := a.env.Stdout.(*os.File)
	if !ok || !term.IsTerminal(int(screen.Fd())) {
		return t.WriteText(a.env.Stdout)
	}
	keys, restore := a.keys(ctx)
	defer restore()
	return replay.Play(ctx, t, replay.Options{Out: screen, Keys: keys, Speed: c.Speed, Search: c.Search})
}

// keys are what is pressed, where somebody sits at the input; restore gives the terminal back.
func (a *app) keys(ctx context.Context) (keys <-chan byte, restore func()) {
	in, ok := a.env.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, func() {}
	}
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, func() {}
	}
	pressed := make(chan byte)
	ctx, stop := context.WithCancel(ctx)
	go func() { // reads until the process ends
		defer close(pressed)
		one := make([]byte, 1)
		for {
			if _, err := in.Read(one); err != nil {
				return
			}
			select {
			case pressed <- one[0]:
			case <-ctx.Done():
				return
			}
		}
	}()
	return pressed, func() {
		stop()
		_ = term.Restore(int(in.Fd()), before)
	}
}

type sessionsExportCmd struct {
	tape

	Format string `required:"" enum:"asciicast,ttylog,cowrie,pcapng,raw" help:"${enum}; asciicast v2 and Cowrie's ttylog are of one program, cowrie are Cowrie's events, one JSON object a line, pcapng is what passed as packets, raw is the recording itself." placeholder:"FORMAT"`
	Output string `short:"o" help:"File to write; without it the standard output." placeholder:"FILE"`
}

func (c *sessionsExportCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	return a.output(c.Output, func(w io.Writer) error {
		if c.Format == "cowrie" {
			return a.exportCowrie(ctx, server, c.ID, w)
		}
		f, err := a.recording(ctx, server, c.ID)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // a temporary file
		if c.Format == "raw" {
			if _, err := io.Copy(w, f); err != nil {
				return fmt.Errorf("write the recording: %w", err)
			}
			return nil
		}
		r, err := reader(f)
		if err != nil {
			return err
		}
		write := asciicast.Write
		switch c.Format {
		case "ttylog":
			write = ttylog.Write
		case "pcapng":
			write = func(w io.Writer, r *recording.Reader, _ uint32) error { return pcapng.Write(w, r) }
		}
		if err := write(w, r, c.Channel); err != nil {
			return fmt.Errorf("export session %s: %w", c.ID, err)
		}
		return nil
	})
}

// output writes to a file, which is there only when all is written, or to the standard output.
func (a *app) output(path string, fn func(io.Writer) error) error {
	if path == "" || path == "-" {
		w := bufio.NewWriter(a.env.Stdout)
		if err := fn(w); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		return nil
	}
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone once it is renamed
	w := bufio.NewWriter(f)
	err = fn(w)
	if err == nil {
		err = w.Flush()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (a *app) exportCowrie(ctx context.Context, server *api.Client, id string, w io.Writer) error {
	s, err := api.Show[event.Session](ctx, server, api.PathSessions, id)
	if err != nil {
		return err
	}
	left, err := server.Evidence(ctx, id)
	if err != nil {
		return err
	}
	for _, e := range sensor(s).Session(s, left, a.logs(ctx, server, id, left)) {
		if err := writeLine(w, e); err != nil {
			return err
		}
	}
	return nil
}

// logs sums up what the ttylogs of a session's terminals are. What can't be read now is missing.
func (a *app) logs(ctx context.Context, server *api.Client, id string, left []event.Evidence) map[uint32]cowrie.Log {
	logs := map[uint32]cowrie.Log{}
	terminal := func(e event.Evidence) bool { return e.Start != nil && e.Start.Terminal() && !e.Start.Refused }
	if !slices.ContainsFunc(left, terminal) {
		return logs
	}
	f, err := a.recording(ctx, server, id)
	if err != nil {
		return logs
	}
	defer f.Close() //nolint:errcheck // a temporary file
	for _, e := range left {
		if !terminal(e) {
			continue
		}
		if log, err := logOf(f, e.Channel); err == nil {
			logs[e.Channel] = log
		}
	}
	return logs
}

// logOf sums up what the ttylog of a terminal is.
func logOf(f *os.File, channel uint32) (cowrie.Log, error) {
	r, err := reader(f)
	if err != nil {
		return cowrie.Log{}, err
	}
	hash := sha256.New()
	size := &counter{}
	if err := ttylog.Write(io.MultiWriter(hash, size), r, channel); err != nil {
		return cowrie.Log{}, err
	}
	return cowrie.Log{SHA256: hex.EncodeToString(hash.Sum(nil)), Size: size.n}, nil
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// sensor renders what a node saw; its identifier is always the same for the same node.
func sensor(s event.Session) cowrie.Renderer {
	sum := sha256.Sum256([]byte("kokkuri node " + s.Node))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // RFC 9562, version 8
	x := hex.EncodeToString(sum[:16])
	return cowrie.Renderer{Sensor: s.Node, UUID: strings.Join([]string{x[:8], x[8:12], x[12:16], x[16:20], x[20:]}, "-")}
}

type sessionsFileCmd struct {
	idArg

	SHA256 string `arg:"" name:"sha256" help:"The file's SHA-256, or how it begins, as sessions show has it."`
	Output string `short:"o" help:"File to write; without it the standard output. It may be malware." placeholder:"FILE"`
}

func (c *sessionsFileCmd) Run(ctx context.Context, a *app) error {
	server, err := a.connect(c.client)
	if err != nil {
		return err
	}
	left, err := server.Evidence(ctx, c.ID)
	if err != nil {
		return err
	}
	sum := ""
	for _, e := range left {
		content := e.Content()
		if content == nil || !strings.HasPrefix(content.SHA256, strings.ToLower(c.SHA256)) {
			continue
		}
		if sum != "" && sum != content.SHA256 {
			return &usageError{text: fmt.Sprintf("%q stands for more than one file of session %s", c.SHA256, c.ID), hint: "give more digits"}
		}
		sum = content.SHA256
	}
	if sum == "" {
		return &api.Error{Message: fmt.Sprintf("no file of session %s has a SHA-256 that begins with %q", c.ID, c.SHA256), Hint: "kokkuri sessions show " + c.ID + " lists them"}
	}
	return a.output(c.Output, func(w io.Writer) error { return server.File(ctx, c.ID, sum, w) })
}
