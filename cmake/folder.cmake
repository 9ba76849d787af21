# The two functions that src/CMakeLists.txt is made of.

# refault_folder(NAME [DEPENDS folder...] [API folder...] [LIBS target...])
#
# One static library refault_NAME from src/NAME/*.cc without tests and mains, and one test program NAME_test from its
# *_test.cc. DEPENDS are the folders it may include from. API are folders it may only use by their public headers
# (include/refault). LIBS are external libraries. A folder without sources is skipped, and so is a dependency on it.
function(refault_folder name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;API;LIBS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$|/main[^/]*\\.cc$")
  if(NOT sources)
    message(STATUS "src/${name}: no sources, skipped")
    return()
  endif()

  add_library(refault_${name} STATIC ${sources})
  target_link_libraries(refault_${name} PUBLIC refault_options ${ARG_LIBS})
  foreach(folder IN LISTS ARG_DEPENDS ARG_API)
    if(TARGET refault_${folder})
      target_link_libraries(refault_${name} PUBLIC refault_${folder})
    endif()
  endforeach()

  if(REFAULT_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE refault_${name} GTest::gtest_main GTest::gmock)
    # What is tested is built as it is shipped; the tests themselves need to be quick to compile.
    target_compile_options(${name}_test PRIVATE -O0 -g1)
    gtest_discover_tests(${name}_test
      DISCOVERY_MODE PRE_TEST
      NO_PRETTY_VALUES
      PROPERTIES LABELS unit TIMEOUT 300)
  endif()
endfunction()

# refault_program(NAME SOURCES file... FOLDERS folder...): an executable in bin/. SOURCES are relative to the top folder;
# the program is skipped while the first of them, or one of the folders, is missing.
function(refault_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;FOLDERS" ${ARGN})
  list(TRANSFORM ARG_SOURCES PREPEND ${CMAKE_SOURCE_DIR}/)
  list(GET ARG_SOURCES 0 main)
  list(TRANSFORM ARG_FOLDERS PREPEND refault_)
  foreach(folder IN LISTS ARG_FOLDERS)
    if(NOT TARGET ${folder})
      message(STATUS "${name}: ${folder} is missing, skipped")
      return()
    endif()
  endforeach()
  if(NOT EXISTS ${main})
    message(STATUS "${name}: ${main} is missing, skipped")
    return()
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_FOLDERS})
endfunction()
