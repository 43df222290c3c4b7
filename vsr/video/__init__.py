"""What PyAV does for the reader and the writer: decoding, encoding, copying and muxing."""
