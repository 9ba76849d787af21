# refault_folder(NAME [DEPENDS folder...] [LIBS target...]): one static library a folder of src/, named refault_NAME, from
# its *.cc but tests and mains; and one test program NAME_test from its *_test.cc.

add_library(refault_options INTERFACE)
target_compile_options(refault_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Werror
  # Quoted includes alone start at src/, so that "sys/socket.h" is ours and <sys/socket.h> the system's.
  "SHELL:-iquote ${CMAKE_SOURCE_DIR}/src")
target_include_directories(refault_options INTERFACE ${CMAKE_SOURCE_DIR}/include)
target_link_libraries(refault_options INTERFACE Threads::Threads)

function(refault_folder name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LIBS" ${ARGN})
  set(dir ${CMAKE_SOURCE_DIR}/src/${name})
  file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.cc)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER sources EXCLUDE REGEX "(_test|/main)\\.cc$")
  add_library(refault_${name} STATIC ${sources})
  list(TRANSFORM ARG_DEPENDS PREPEND refault_)
  target_link_libraries(refault_${name} PUBLIC refault_options ${ARG_DEPENDS} ${ARG_LIBS})
  if(REFAULT_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE refault_${name} GTest::gtest_main)
    gtest_discover_tests(${name}_test DISCOVERY_MODE PRE_TEST PROPERTIES LABELS unit TIMEOUT 120)
  endif()
endfunction()
