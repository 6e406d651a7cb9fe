"""The client's side of TES and WES: speaks HTTP to any server, knows nothing of weft's own store or executors."""
