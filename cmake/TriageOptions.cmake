# What a user may choose. Everything else follows from these.
set(TRIAGE_CUDA AUTO CACHE STRING "GPU kernels: AUTO (if a CUDA compiler is found), ON (fail without one), OFF")
set_property(CACHE TRIAGE_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT TRIAGE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "TRIAGE_CUDA is '${TRIAGE_CUDA}'; accepted: AUTO, ON, OFF")
endif()

set(TRIAGE_CUDA_ARCHITECTURES native CACHE STRING
    "native (this machine's GPUs, else all), all, or a list out of 80 86 89 90a 100 120")

option(TRIAGE_BUILD_PROGRAM "Build the triage program" ${PROJECT_IS_TOP_LEVEL})
option(TRIAGE_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(TRIAGE_BUILD_PYTHON "Build libtriage.so of the Python package (pip install . uses it)" ${PROJECT_IS_TOP_LEVEL})
option(TRIAGE_OPENMP "Use OpenMP in the CPU backend where the compiler has it" ON)
option(TRIAGE_PORTABLE_BINARIES "Link all but glibc statically, for machines where nothing can be installed" OFF)
set(TRIAGE_SANITIZE "" CACHE STRING "Sanitizers for C++ code, as -fsanitize= takes them, e.g. address,undefined")

option(TRIAGE_FUZZ "Build the libFuzzer targets of tests/fuzz (needs clang)" OFF)

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
