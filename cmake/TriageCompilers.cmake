# Language level, warnings, sanitizers and ccache for every target of the project.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)  # the static library goes into Python modules and shared libraries
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

find_program(TRIAGE_CCACHE ccache)
mark_as_advanced(TRIAGE_CCACHE)
if(TRIAGE_CCACHE)
  foreach(language CXX CUDA)
    if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER ${TRIAGE_CCACHE})
    endif()
  endforeach()
endif()

# Carries the flags that all of our own code gets; linked privately, so that none of them reaches a user of the library.
add_library(triage_flags INTERFACE)
target_compile_options(triage_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra>
  # g++ 12 and 13 warn about `"text" + std::string` where nothing is wrong (GCC bug 105651).
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-restrict>)
if(TRIAGE_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "TRIAGE_FUZZ=ON needs clang (libFuzzer); the C++ compiler is ${CMAKE_CXX_COMPILER_ID}")
  endif()
  target_compile_options(triage_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=fuzzer-no-link>)
  if(NOT TRIAGE_SANITIZE)
    set(TRIAGE_SANITIZE address,undefined)
  endif()
endif()
if(TRIAGE_SANITIZE)
  target_compile_options(triage_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${TRIAGE_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer>)
  target_link_options(triage_flags INTERFACE -fsanitize=${TRIAGE_SANITIZE})
endif()

# What code with OpenMP pragmas links: OpenMP where it was found, and libgomp statically in portable binaries.
add_library(triage_openmp INTERFACE)
if(TRIAGE_OPENMP)
  find_package(OpenMP COMPONENTS CXX)
endif()
if(OpenMP_CXX_FOUND)
  if(TRIAGE_PORTABLE_BINARIES)
    target_compile_options(triage_openmp INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${OpenMP_CXX_FLAGS}>")
    # A shared object cannot hold the static one: its code is not position-independent.
    target_link_libraries(triage_openmp INTERFACE
      "$<IF:$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>,-l:libgomp.a,-lgomp>")
  else()
    target_link_libraries(triage_openmp INTERFACE OpenMP::OpenMP_CXX)
  endif()
endif()
if(TRIAGE_PORTABLE_BINARIES)
  target_link_options(triage_flags INTERFACE -static-libstdc++ -static-libgcc)
endif()
