package honeypot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/event"
	"github.com/kokkuri/kokkuri/internal/honeypot/engine"
)

const listensWithin = time.Minute

// Image is one that pots or doors are made of.
type Image struct {
	Name     string          `json:"name"`
	Services []event.Service `json:"services"`
	Size     int64           `json:"size"` // bytes, with layers that are shared
	Created  time.Time       `json:"created_at"`
}

// Images are those on an engine, by name.
func Images(ctx context.Context, host string) ([]Image, error) {
	d, err := engine.New(engine.Options{Host: host})
	if err != nil {
		return nil, err
	}
	defer d.Close() //nolint:errcheck // idle connections
	all, err := d.Images(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Image, 0, len(all))
	for _, i := range all {
		out = append(out, Image{Name: i.Name, Services: slices.Sorted(maps.Keys(i.Services)), Size: i.Size, Created: i.Created})
	}
	return out, nil
}

// BuildImages builds the images of pots and doors of one of Debian's suites from what is in this binary, where they are missing or old.
// It returns the name of the pots'.
func BuildImages(ctx context.Context, host, suite string, progress io.Writer) (string, error) {
	d, err := engine.New(engine.Options{Host: host})
	if err != nil {
		return "", err
	}
	defer d.Close() //nolint:errcheck // idle connections
	return ImageOf(suite), errors.Join(BuildSuite(ctx, d, suite, progress), BuildDoor(ctx, d, suite, progress))
}

// Check is what was found of one thing that an image has to have.
type Check struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Says string `json:"says,omitempty"`
}

// VerifyImage holds an image against what a node needs of it: labels that can be read, and services that listen where they say, each started
// as a node would, in a pot that is removed again. Each check is told when it is done.
func VerifyImage(ctx context.Context, host, image string, told func(Check)) (ok bool, err error) {
	d, err := engine.New(engine.Options{Host: host, Node: "verify"})
	if err != nil {
		return false, err
	}
	defer d.Close() //nolint:errcheck // idle connections
	i, err := d.Image(ctx, image)
	if err != nil {
		return false, err
	}
	ok = true
	tell := func(what string, good bool, says string) {
		ok = ok && good
		told(Check{What: what, OK: good, Says: says})
	}
	for _, c := range labelChecks(i) {
		tell(c.What, c.OK, c.Says)
	}
	if len(i.Services) == 0 {
		return ok, nil
	}
	err = d.Try(ctx, image, func(t engine.Tried) error {
		for _, s := range slices.Sorted(maps.Keys(i.Services)) {
			says, err := starts(ctx, t, i.Starts[s], i.Services[s])
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				says = err.Error()
			}
			tell(fmt.Sprintf("%s listens at %d", s, i.Services[s]), err == nil, says)
		}
		return nil
	})
	return ok, err
}

// labelChecks hold an image's labels against what fronts need.
func labelChecks(i engine.Image) (out []Check) {
	if i.Labels != nil {
		out = append(out, Check{"labels", false, i.Labels.Error()})
	}
	switch {
	case len(i.Services) == 0:
		out = append(out, Check{"services", false, "no label kokkuri.service.NAME=PORT says what it offers"})
	case i.Services[event.SSH] == 0:
		out = append(out, Check{"services", false, "no ssh: accounts of guests, and services without our init, are started by its sshd (kokkuri.service.ssh=22)"})
	default:
		out = append(out, Check{"services", true, ""})
	}
	for s := range i.Services {
		if !slices.Contains(event.Services(), s) {
			out = append(out, Check{"service " + string(s), false, fmt.Sprintf("nothing redirects it; known are %v", event.Services())})
		}
	}
	for s, login := range i.Logins {
		account, password, ok := strings.Cut(login, ":")
		switch {
		case i.Services[s] == 0:
			out = append(out, Check{"login of " + string(s), false, "the image has no such service"})
		case !ok || account == "" || password == "":
			out = append(out, Check{"login of " + string(s), false, fmt.Sprintf("kokkuri.login.%s has to be ACCOUNT:PASSWORD", s)})
		}
	}
	for _, s := range []event.Service{event.MySQL, event.Postgres, event.Redis, event.HTTP} {
		if i.Services[s] != 0 && i.Logins[s] == "" {
			out = append(out, Check{"login of " + string(s), true, fmt.Sprintf("no kokkuri.login.%s: the image's own passwords open, whatever is guessed before", s)})
		}
	}
	slices.SortStableFunc(out, func(a, b Check) int { return strings.Compare(a.What, b.What) })
	return out
}

// starts starts a service and waits until it listens.
func starts(ctx context.Context, t engine.Tried, command string, port uint16) (says string, err error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, listensWithin)
	defer cancel()
	if command != "" {
		if err := t.Run(ctx, command); err != nil {
			return "", err
		}
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !t.Listens(port) {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("nothing listens there after %s", listensWithin)
		case <-tick.C:
		}
	}
	return "after " + time.Since(begun).Round(10*time.Millisecond).String(), nil
}
