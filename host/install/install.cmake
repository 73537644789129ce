# Install rules: component `runtime` is the library and the command, `dev` what compiling against
# them needs. Nothing installed knows where it was built; a staged tree may be moved.
include(CMakePackageConfigHelpers)

set(tern_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tern)
install(TARGETS tern EXPORT tern
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT dev)
if(TARGET tern_command)
  install(TARGETS tern_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
endif()
if(TARGET tern_command) # beside the command: its benchmarks
  install(DIRECTORY bench/problems bench/suites DESTINATION ${CMAKE_INSTALL_DATADIR}/tern/bench
    COMPONENT runtime FILES_MATCHING PATTERN "*.txt")
endif()
install(DIRECTORY include/tern DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT dev
  FILES_MATCHING PATTERN "*.h")

install(EXPORT tern FILE tern-config.cmake NAMESPACE tern:: DESTINATION ${tern_cmake_dir}
  COMPONENT dev)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/generated/tern-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/generated/tern-config-version.cmake
  DESTINATION ${tern_cmake_dir} COMPONENT dev)

# The prefix is found from where the file lies, unless a folder was given as an absolute path.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(tern_pc_prefix ${CMAKE_INSTALL_PREFIX})
  set(tern_pc_libdir ${CMAKE_INSTALL_FULL_LIBDIR})
  set(tern_pc_includedir ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
  file(RELATIVE_PATH tern_up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  string(REGEX REPLACE "/$" "" tern_up "${tern_up}")
  set(tern_pc_prefix "\${pcfiledir}/${tern_up}")
  set(tern_pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  set(tern_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(host/install/tern.pc.in generated/tern.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/generated/tern.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)
