package native

// Formats are all that are known.
func Formats() []Format {
	return nil
}
