# What `cmake --install` puts where: programs, and the library with its headers and its CMake and pkg-config files.

foreach(program refaultd refault refault-bench)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()

# Made from the command table of the program itself, so that they name what there is.
if(TARGET refault)
  set(reference_dir ${CMAKE_BINARY_DIR}/reference)
  file(MAKE_DIRECTORY ${reference_dir})
  foreach(made "refault.1|man" "refault.bash|completion|bash" "refault.zsh|completion|zsh")
    string(REPLACE "|" ";" words ${made})
    list(POP_FRONT words file)
    add_custom_command(OUTPUT ${reference_dir}/${file}
      COMMAND refault ${words} > ${reference_dir}/${file} DEPENDS refault VERBATIM)
    list(APPEND reference_files ${reference_dir}/${file})
  endforeach()
  add_custom_target(reference ALL DEPENDS ${reference_files})
  install(FILES ${reference_dir}/refault.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${reference_dir}/refault.bash
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME refault)
  install(FILES ${reference_dir}/refault.zsh
    DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions RENAME _refault)
endif()
foreach(page refaultd.8 refaultd.conf.5 mount.fuse.refault.8)
  string(REGEX MATCH "[0-9]$" section ${page})
  install(FILES packaging/man/${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
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
