"""Seven prokaryotes told apart by a thousand bases."""
