package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/kokkuri/kokkuri/internal/event"
)

const maxSays = 1 << 10 // bytes of what a command says that failed

// Image is one that pots are made of.
type Image struct {
	Name     string
	Created  time.Time
	Size     int64 // bytes, with the layers that it shares
	Services map[event.Service]uint16
	Starts   map[event.Service]string // how those are started that don't run from the pot's start on
	Logins   map[event.Service]string // how their administrators log in: ACCOUNT:PASSWORD
	Guise    bool                     // its init is ours
	Labels   error                    // what is wrong with its labels
}

// Images are all on this engine that say by their labels that they are for pots, by name.
func (d *Docker) Images(ctx context.Context) ([]Image, error) {
	res, err := d.cli.ImageList(ctx, client.ImageListOptions{})
	if err != nil {
		return nil, d.wrap(err, "list images")
	}
	var out []Image
	for _, one := range res.Items {
		image := imageOf(one.Labels)
		if len(image.Services) == 0 && image.Labels == nil {
			continue
		}
		image.Created, image.Size = time.Unix(one.Created, 0), one.Size
		for _, name := range one.RepoTags {
			if strings.HasPrefix(name, "<none>") { // another has taken its name
				continue
			}
			image.Name = name
			out = append(out, image)
		}
	}
	slices.SortFunc(out, func(a, b Image) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func imageOf(labels map[string]string) Image {
	services, err := servicesOf(labels)
	return Image{
		Services: services, Starts: byService(labels, labelStart), Logins: byService(labels, labelLogin),
		Guise: labels[labelGuise] != "", Labels: err,
	}
}

// Image reads what an image says of itself.
func (d *Docker) Image(ctx context.Context, name string) (Image, error) {
	res, err := d.cli.ImageInspect(ctx, name)
	if err != nil {
		return Image{}, d.wrap(err, "look for the image "+name)
	}
	var labels map[string]string
	if res.Config != nil {
		labels = res.Config.Labels
	}
	image := imageOf(labels)
	image.Name, image.Size = name, res.Size
	image.Created, _ = time.Parse(time.RFC3339Nano, res.Created)
	return image, nil
}

// Tried is a pot that was made for a moment.
type Tried struct {
	d   *Docker
	id  string
	pid int
}

// Try makes a pot of an image, with no network, has fn look at it, and removes it.
func (d *Docker) Try(ctx context.Context, image string, fn func(Tried) error) error {
	id, err := d.Create(ctx, Spec{Image: image, Hostname: "pot", Resolver: netip.IPv4Unspecified()})
	if err != nil {
		return err
	}
	defer func() { _ = d.Remove(context.WithoutCancel(ctx), id) }()
	if err := d.Start(ctx, id); err != nil {
		return err
	}
	c, found, err := d.Inspect(ctx, id)
	if err != nil || !found || c.PID == 0 {
		return errors.Join(fmt.Errorf("image %s: its pot ends at once", image), err)
	}
	return fn(Tried{d, id, c.PID})
}

// Run runs a command line in it, which may leave something running. What it said is in the error where it fails.
func (t Tried) Run(ctx context.Context, command string) error {
	const says = "/tmp/.says" // what it leaves running may keep the other end of a pipe, or lose its terminal
	made, err := t.d.cli.ExecCreate(ctx, t.id, client.ExecCreateOptions{Cmd: []string{"/bin/sh", "-c", "exec >" + says + " 2>&1 </dev/null; " + command}})
	if err == nil {
		_, err = t.d.cli.ExecStart(ctx, made.ID, client.ExecStartOptions{Detach: true})
	}
	if err != nil {
		return t.d.wrap(err, "run a command")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		state, err := t.d.cli.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
		switch {
		case err != nil:
			return t.d.wrap(err, "run a command")
		case !state.Running && state.ExitCode == 0:
			return nil
		case !state.Running:
			text, _ := os.ReadFile("/proc/" + strconv.Itoa(t.pid) + "/root" + says)
			return fmt.Errorf("%s: it ends with %d: %s", command, state.ExitCode, strings.TrimSpace(string(text[:min(len(text), maxSays)])))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: it does not end: %w", command, ctx.Err())
		case <-tick.C:
		}
	}
}

// Listens reports whether something in it listens at a TCP port.
func (t Tried) Listens(port uint16) bool {
	for _, table := range []string{"tcp", "tcp6"} {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(t.pid) + "/net/" + table)
		if err != nil {
			continue
		}
		const listen = "0A"
		end := fmt.Sprintf(":%04X", port)
		for line := range strings.Lines(string(data)) {
			if fields := strings.Fields(line); len(fields) > 3 && strings.HasSuffix(fields[1], end) && fields[3] == listen {
				return true
			}
		}
	}
	return false
}
