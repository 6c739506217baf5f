package truth

// Version of the facts, without making them.
func (b *Book) Version() uint64 { return b.version }
