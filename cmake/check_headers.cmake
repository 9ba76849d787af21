# check-headers: every header is compiled as the only include of a file, so none depends on what others include first.
# The object files are thrown away; compiling them, instead of -fsyntax-only, lets ninja see what each header includes and
# repeat only what changed.

file(GLOB_RECURSE headers RELATIVE ${CMAKE_SOURCE_DIR} CONFIGURE_DEPENDS
  ${CMAKE_SOURCE_DIR}/src/*.h ${CMAKE_SOURCE_DIR}/include/*.h ${CMAKE_SOURCE_DIR}/include/*.hpp
  ${CMAKE_SOURCE_DIR}/bench/*.h)
set(sources)
foreach(header IN LISTS headers)
  string(MAKE_C_IDENTIFIER ${header} name)
  set(HEADER ${CMAKE_SOURCE_DIR}/${header})
  set(suffixes cc)
  if(header MATCHES "^include/.*\\.h$")
    list(APPEND suffixes c)  # the C API must also be C
  endif()
  foreach(suffix IN LISTS suffixes)
    set(source ${CMAKE_BINARY_DIR}/check_headers/${name}.${suffix})
    file(CONFIGURE OUTPUT ${source} CONTENT "#include \"@HEADER@\"\n" @ONLY)
    list(APPEND sources ${source})
  endforeach()
endforeach()

if(sources)
  add_library(check-headers OBJECT ${sources})
  target_compile_options(check-headers PRIVATE "SHELL:-iquote ${CMAKE_SOURCE_DIR}")
  target_link_libraries(check-headers PRIVATE
    refault_options PkgConfig::HTTPLIB nlohmann_json::nlohmann_json CLI11::CLI11)
endif()
