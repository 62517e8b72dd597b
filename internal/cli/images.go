package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kokkuri/kokkuri/internal/cli/safe"
	"github.com/kokkuri/kokkuri/internal/event"
)

const maxCheck = 400 // characters of what a check says

// Images are the images of pots on this machine's engine, whose address is host.
type Images struct {
	List   func(ctx context.Context, host string) ([]Image, error)
	Build  func(ctx context.Context, host, suite string, progress io.Writer) (name string, err error)
	Verify func(ctx context.Context, host, image string, told func(ImageCheck)) (ok bool, err error)
	Own    func(suite string) string // the name of the one that Build makes
}

// Image is one.
type Image struct {
	Name     string          `json:"name"`
	Services []event.Service `json:"services"`
	Size     int64           `json:"size"` // bytes, with layers that are shared
	Created  time.Time       `json:"created_at"`
}

// ImageCheck is what was found of one thing that an image has to have.
type ImageCheck struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Says string `json:"says,omitempty"`
}

type (
	imagesCmd struct {
		Ls     imagesLsCmd     `cmd:"" default:"withargs" help:"List the images on this machine that pots are made of."`
		Build  imagesBuildCmd  `cmd:"" help:"Build the images of pots and doors, where they are missing or old. Nodes do so by themselves."`
		Verify imagesVerifyCmd `cmd:"" help:"Check an image, also one of your own: what its labels say, and that its services start."`
	}
	imagesLsCmd    struct{ output }
	imagesBuildCmd struct {
		Suite string `arg:"" optional:"" enum:"bookworm,bullseye" default:"bookworm" help:"Debian's: ${enum}."`
	}
	imagesVerifyCmd struct {
		output

		Image string `arg:"" optional:"" help:"Its name; the configured one, or that which a node builds, where none is given."`
	}
)

// potEngine is the address of the engine that is configured for pots.
func (a *app) potEngine() (host, image string, err error) {
	if a.roles.Images.List == nil {
		return "", "", missing("the honeypot node")
	}
	l, err := a.load(nil)
	if err != nil {
		return "", "", err
	}
	return l.Honeypot.Engine, l.Honeypot.Image, nil
}

func (c *imagesLsCmd) Run(ctx context.Context, a *app) error {
	host, _, err := a.potEngine()
	if err != nil {
		return err
	}
	all, err := a.roles.Images.List(ctx, host)
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		return a.json(all)
	}
	var rows [][]cell
	for _, i := range all {
		rows = append(rows, []cell{plain(i.Name), plain(joined(i.Services)), plain(fmt.Sprintf("%d MB", i.Size/1_000_000)), plain(a.ago(i.Created))})
	}
	return a.table([]string{"NAME", "SERVICES", "SIZE", "BUILT"}, rows, "No image on this machine is for pots: kokkuri images build makes one.")
}

func (c *imagesBuildCmd) Run(ctx context.Context, a *app) error {
	host, _, err := a.potEngine()
	if err != nil {
		return err
	}
	name, err := a.roles.Images.Build(ctx, host, c.Suite, a.env.Stdout)
	if err != nil {
		return err
	}
	return a.printf("%s is up to date\n", name)
}

func (c *imagesVerifyCmd) Run(ctx context.Context, a *app) error {
	host, configured, err := a.potEngine()
	if err != nil {
		return err
	}
	const suite = "bookworm"
	image := cmp.Or(c.Image, configured, a.roles.Images.Own(suite))
	var checks []ImageCheck
	ok, err := a.roles.Images.Verify(ctx, host, image, func(check ImageCheck) {
		checks = append(checks, check)
		if !a.wantsJSON(c.output) {
			_ = a.imageCheck(check)
		}
	})
	if err != nil {
		return err
	}
	if a.wantsJSON(c.output) {
		err = a.json(struct {
			Image  string       `json:"image"`
			OK     bool         `json:"ok"`
			Checks []ImageCheck `json:"checks"`
		}{image, ok, checks})
	}
	if err == nil && !ok {
		return errFailed
	}
	return err
}

func (a *app) imageCheck(c ImageCheck) error {
	word, look := "ok", green
	if !c.OK {
		word, look = "WRONG", red
	}
	return a.printf("%s  %s\n", paint(a.env.Colour, look, fmt.Sprintf("%-5s", word)), strings.TrimSpace(fmt.Sprintf("%-26s %s", safe.Cut(c.What, widest), safe.Cut(c.Says, maxCheck))))
}
