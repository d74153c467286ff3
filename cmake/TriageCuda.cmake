# Finds the CUDA compiler and turns TRIAGE_CUDA_ARCHITECTURES into nvcc flags per kernel family.
#
# Results: TRIAGE_HAS_CUDA, TRIAGE_HAS_SM80, TRIAGE_HAS_SM90 (0 or 1; compile definitions of the same names), and
# TRIAGE_CODE_sm80, TRIAGE_CODE_sm90 (the --generate-code options of a family).
set(TRIAGE_HAS_CUDA 0)
set(TRIAGE_HAS_SM80 0)
set(TRIAGE_HAS_SM90 0)
set(TRIAGE_CUDA_STATUS "off: TRIAGE_CUDA=OFF")

set(TRIAGE_CUDA_MINIMUM 12.4)  # the first toolkit whose cuda::ptx has what the kernels use

if(NOT TRIAGE_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  find_program(TRIAGE_NVCC nvcc HINTS ENV CUDACXX ENV PATH PATHS /usr/local/cuda/bin)
  mark_as_advanced(TRIAGE_NVCC)
  if(TRIAGE_NVCC AND NOT DEFINED ENV{CUDACXX})
    set(ENV{CUDACXX} ${TRIAGE_NVCC})  # what check_language tries; it leaves a compiler named by -D unchecked
  endif()
  # Each target names its own architectures below; CMake shall add none.
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  if(NOT DEFINED CMAKE_CUDA_COMPILER)
    set(TRIAGE_CUDA_TRIED "$ENV{CUDACXX}" CACHE INTERNAL "The CUDA compiler that check_language tries")
  endif()
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER AND TRIAGE_CUDA_TRIED)
    set(TRIAGE_CUDA_STATUS "off: ${TRIAGE_CUDA_TRIED} does not work with this C++ compiler \
(${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}); building the CPU backend only")
  elseif(NOT CMAKE_CUDA_COMPILER)
    set(TRIAGE_CUDA_STATUS "off: no CUDA compiler (nvcc) in PATH or /usr/local/cuda; building the CPU backend only")
  else()
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS TRIAGE_CUDA_MINIMUM)
      set(TRIAGE_CUDA_STATUS "off: ${CMAKE_CUDA_COMPILER} is ${CMAKE_CUDA_COMPILER_VERSION}, \
${TRIAGE_CUDA_MINIMUM} is needed; building the CPU backend only")
    else()
      set(TRIAGE_HAS_CUDA 1)
    endif()
  endif()
  if(TRIAGE_CUDA STREQUAL "ON" AND NOT TRIAGE_HAS_CUDA)
    message(FATAL_ERROR "TRIAGE_CUDA=ON, but GPU kernels are ${TRIAGE_CUDA_STATUS}")
  endif()
endif()

if(TRIAGE_HAS_CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc 12 and later take it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)

  # 86 runs the code of 80; 100 and 120 need CUDA 12.8.
  set(all_architectures 80 89 90a)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)
    list(APPEND all_architectures 100 120)
  endif()
  set(architectures ${TRIAGE_CUDA_ARCHITECTURES})
  if(architectures STREQUAL "native")
    execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                    OUTPUT_VARIABLE capabilities ERROR_QUIET RESULT_VARIABLE status)
    set(architectures)
    if(status EQUAL 0)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]" capabilities "${capabilities}")
      string(REPLACE "." "" architectures "${capabilities}")
      list(REMOVE_DUPLICATES architectures)
    endif()
    # A GPU before 80 runs none of the kernels: for those, as without a GPU, build what others could run.
    list(FILTER architectures INCLUDE REGEX "^([89]|1[0-9])[0-9]$")
    if(NOT architectures)
      set(architectures all)
    endif()
  endif()
  set(TRIAGE_CODE_sm80)
  set(TRIAGE_CODE_sm90)
  if(architectures STREQUAL "all")
    set(architectures ${all_architectures})
    # PTX of 80 serves what comes later, and lets an 8.x GPU's code run on a 9.0 device (CUDA_FORCE_PTX_JIT=1).
    list(APPEND TRIAGE_CODE_sm80 --generate-code=arch=compute_80,code=compute_80)
  endif()
  foreach(architecture IN LISTS architectures)
    if(NOT architecture MATCHES "^([0-9]+)a?$")
      message(FATAL_ERROR "TRIAGE_CUDA_ARCHITECTURES holds '${architecture}'; accepted: native, all, "
                          "or a list out of 80 86 89 90a 100 120")
    endif()
    set(number ${CMAKE_MATCH_1})
    if(number LESS 80)
      message(FATAL_ERROR "TRIAGE_CUDA_ARCHITECTURES holds '${architecture}'; the kernels need 80 or later")
    endif()
    # Two versions of the family's source, not one an architecture: what is new from 9.0 on is used there and later, and
    # ptxas, not the front end (which takes more than half of the time), knows the machines.
    if(number LESS 90)
      set(version 80)
    else()
      set(version 90)
    endif()
    list(APPEND TRIAGE_CODE_sm80 --generate-code=arch=compute_${version},code=sm_${number})
    set(TRIAGE_HAS_SM80 1)
    if(number EQUAL 90)  # wgmma exists on 90a and nowhere else
      list(APPEND TRIAGE_CODE_sm90 --generate-code=arch=compute_90a,code=sm_90a)
      set(TRIAGE_HAS_SM90 1)
    endif()
  endforeach()
  list(JOIN architectures " " architectures)
  set(TRIAGE_CUDA_STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${architectures}")

  target_compile_options(triage_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra;--expt-relaxed-constexpr>)
endif()
set(TRIAGE_BUILT_WITH_CUDA ${TRIAGE_HAS_CUDA} CACHE INTERNAL "For ./triage: whether this build holds GPU kernels")
