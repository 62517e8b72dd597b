package pki

import "time"

// LoadClientAt is LoadClient with another clock.
func LoadClientAt(dir string, now func() time.Time) (*Client, error) { return loadClient(dir, now) }
