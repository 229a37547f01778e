"""Work that control has done in processes of their own: reading data from strangers, loading models, scoring tables."""
