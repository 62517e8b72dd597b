package furnish

// OpenRoot opens a folder as a pot's root.
func OpenRoot(dir string) (*Pot, error) { return openRoot(dir) }
