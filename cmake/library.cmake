# The public library, librefault.so and librefault.a: the client folder and what it uses of the folders below it.
if(NOT TARGET refault_client OR NOT EXISTS ${CMAKE_SOURCE_DIR}/include/refault)
  message(STATUS "librefault: src/client or include/refault is missing, skipped")
  return()
endif()

set(version_script ${CMAKE_SOURCE_DIR}/cmake/librefault.map)
add_library(refault_shared SHARED $<TARGET_OBJECTS:refault_client>)
target_link_libraries(refault_shared PRIVATE refault_client)
target_link_options(refault_shared PRIVATE -Wl,--version-script=${version_script})
if(NOT REFAULT_SANITIZE)
  # A symbol that nothing defines is found here and not by the first program that loads the library.
  target_link_options(refault_shared PRIVATE -Wl,-z,defs)
endif()
set_target_properties(refault_shared PROPERTIES
  OUTPUT_NAME refault
  EXPORT_NAME refault
  VERSION ${PROJECT_VERSION}
  SOVERSION 0
  LINK_DEPENDS ${version_script})

# An archive does not contain the archives it needs, so this one takes the objects of all the folders below.
add_library(refault_static STATIC
  $<TARGET_OBJECTS:refault_client>
  $<TARGET_OBJECTS:refault_wire>
  $<TARGET_OBJECTS:refault_sys>
  $<TARGET_OBJECTS:refault_base>)
set_target_properties(refault_static PROPERTIES OUTPUT_NAME refault LINKER_LANGUAGE CXX)
target_link_libraries(refault_static PUBLIC Threads::Threads)

foreach(library refault_shared refault_static)
  target_include_directories(${library} INTERFACE
    $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
add_library(refault::refault ALIAS refault_shared)
add_library(refault::refault_static ALIAS refault_static)
