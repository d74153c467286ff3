# Install tree: headers, the static library, CMake package files and the program.
