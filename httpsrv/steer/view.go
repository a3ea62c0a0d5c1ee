package steer

// View is a handle of who only looks.
type View struct {
	s shared
	m mapping
}

// Watch maps the array whose descriptor (Steering.File) this process inherited, to be looked at; fd may be closed afterwards.
// Errors: ErrNotShared, ErrLayout.
func Watch(fd int) (*View, error) {
	m, err := mapShared(fd)
	if err != nil {
		return nil, err
	}
	s, err := overlay(m.mem())
	if err != nil {
		_ = m.unmap()
		return nil, err
	}
	return &View{s, m}, nil
}

// Stats returns counts and standings; those of nil, which stands for 'not steered', are zero and of no tile.
func (v *View) Stats() Stats {
	if v == nil {
		return Stats{}
	}
	return v.s.stats()
}

// Leave unmaps the array. It is called once, as the last.
func (v *View) Leave() error { return v.m.unmap() }
