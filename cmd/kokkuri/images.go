package main

import (
	"context"

	"github.com/kokkuri/kokkuri/internal/cli"
	"github.com/kokkuri/kokkuri/internal/honeypot"
)

func images() cli.Images {
	return cli.Images{
		List: func(ctx context.Context, host string) ([]cli.Image, error) {
			all, err := honeypot.Images(ctx, host)
			out := make([]cli.Image, 0, len(all))
			for _, i := range all {
				out = append(out, cli.Image(i))
			}
			return out, err
		},
		Build: honeypot.BuildImages,
		Verify: func(ctx context.Context, host, image string, told func(cli.ImageCheck)) (bool, error) {
			return honeypot.VerifyImage(ctx, host, image, func(c honeypot.Check) { told(cli.ImageCheck(c)) })
		},
		Own: honeypot.ImageOf,
	}
}
