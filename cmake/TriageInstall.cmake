# Install tree: headers, the static libraries, CMake package files (find_package(triage)) and the program.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/triage)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/triage DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN *.h)
set(installed_libraries triage triage_openmp)
if(TARGET triage_io)
  list(APPEND installed_libraries triage_io)
endif()
install(TARGETS ${installed_libraries} EXPORT triageTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT triageTargets NAMESPACE triage:: DESTINATION ${package_dir})
if(TARGET triage_program)
  install(TARGETS triage_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(TARGETS triage_worker LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/triage)
  if(TARGET triage_cutlass)
    install(TARGETS triage_cutlass LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/triage)
  endif()
  install(FILES ${PROJECT_BINARY_DIR}/triage_python_worker.py DESTINATION ${CMAKE_INSTALL_LIBDIR}/triage)
endif()

set(TRIAGE_NEEDS_OPENMP OFF)
if(OpenMP_CXX_FOUND AND NOT TRIAGE_PORTABLE_BINARIES)
  set(TRIAGE_NEEDS_OPENMP ON)
endif()
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/triageConfig.cmake.in ${PROJECT_BINARY_DIR}/triageConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/triageConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/triageConfig.cmake ${PROJECT_BINARY_DIR}/triageConfigVersion.cmake
        DESTINATION ${package_dir})
