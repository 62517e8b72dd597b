package guise

// TakeNone receives a question from a pot where there is none: another one took it.
func TakeNone(pid int) error {
	l, err := takeListener(pid)
	if err != nil {
		return err
	}
	defer l.close()
	var n notification
	return l.take(l.f.Fd(), &n)
}
