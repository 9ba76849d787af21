# What `cmake --install` puts where: programs, and the library with its headers and its CMake and pkg-config files.

foreach(program refaultd refault refault-bench)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()

# So that mount(8) and fstab know the type fuse.refault.
install(PROGRAMS tools/mount.fuse.refault DESTINATION ${CMAKE_INSTALL_SBINDIR})

if(NOT TARGET refault_shared)
  return()
endif()

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/refault)

install(TARGETS refault_shared refault_static EXPORT refaultTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/refault DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT refaultTargets NAMESPACE refault:: DESTINATION ${package_dir})

configure_package_config_file(cmake/refaultConfig.cmake.in ${CMAKE_BINARY_DIR}/refaultConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/refaultConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/refaultConfig.cmake ${CMAKE_BINARY_DIR}/refaultConfigVersion.cmake
  DESTINATION ${package_dir})

# The prefix is given relative to the .pc file: the installed tree may be moved, or staged with --prefix.
file(RELATIVE_PATH refault_prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/refault.pc.in ${CMAKE_BINARY_DIR}/refault.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/refault.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
