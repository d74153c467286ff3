# One line on what will be built.
message(STATUS "Triage ${PROJECT_VERSION}: ${CMAKE_BUILD_TYPE}; GPU kernels ${TRIAGE_CUDA_STATUS}")
