"""The local page of `vsr ui`: a queue of real `vsr` commands, and a web server for this machine
alone. Nothing here decodes a clip: that is done by child processes."""
