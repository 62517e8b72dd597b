package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moby/moby/client"
)

// ErrNoLayers says that the engine's storage driver does not tell where a pot's files are.
var ErrNoLayers = errors.New("the engine keeps pots on a storage driver other than overlay2")

// Layers returns the folder of what was changed in a pot, and those of what it was made of, the topmost first.
func (d *Docker) Layers(ctx context.Context, id string) (upper string, lower []string, err error) {
	res, err := d.cli.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return "", nil, d.wrap(err, "inspect pot "+short(id))
	}
	driver := res.Container.GraphDriver
	if driver == nil || driver.Data["UpperDir"] == "" {
		return "", nil, fmt.Errorf("files of pot %s: %w", short(id), ErrNoLayers)
	}
	if below := driver.Data["LowerDir"]; below != "" {
		lower = strings.Split(below, ":")
	}
	return driver.Data["UpperDir"], lower, nil
}
