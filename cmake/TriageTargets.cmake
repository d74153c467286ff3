# The few functions that describe this project's targets.

# An object library of the static library `triage`, or nothing if there are no sources (yet). C++ and CUDA alike.
function(triage_add_objects target)
  if(NOT ARGN)
    return()
  endif()
  add_library(${target} OBJECT ${ARGN})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  target_compile_definitions(${target} PRIVATE
    TRIAGE_VERSION="${PROJECT_VERSION}" TRIAGE_HAS_CUDA=${TRIAGE_HAS_CUDA}
    TRIAGE_HAS_SM80=${TRIAGE_HAS_SM80} TRIAGE_HAS_SM90=${TRIAGE_HAS_SM90})
  target_link_libraries(${target} PRIVATE triage_flags triage_openmp ${TRIAGE_DLPACK})
  if(TRIAGE_HAS_CUDA)
    target_include_directories(${target} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  endif()
  target_sources(triage PRIVATE $<TARGET_OBJECTS:${target}>)
endfunction()

# The same sources once per instruction set: TRIAGE_ISA is the set's name (a namespace in the code), and the flags
# differ. `isas` is a list of name=flags with flags separated by commas.
function(triage_add_isa_objects prefix isas)
  foreach(isa IN LISTS isas)
    string(REGEX MATCH "^([a-z0-9]+)=(.*)$" matched "${isa}")
    set(name ${CMAKE_MATCH_1})
    string(REPLACE "," ";" flags "${CMAKE_MATCH_2}")
    triage_add_objects(${prefix}_${name} ${ARGN})
    if(TARGET ${prefix}_${name})
      target_compile_options(${prefix}_${name} PRIVATE ${flags})
      target_compile_definitions(${prefix}_${name} PRIVATE TRIAGE_ISA=${name})
    endif()
  endforeach()
endfunction()
