"""What runs beside the GPU; a package so that Modal finds the modules of its app together."""
