# fuzz/: each fuzz/NAME_fuzz.cc is a target that withstands any input. REFAULT_FUZZ links each with libFuzzer as NAME_fuzz;
# REFAULT_TESTS links all of them into fuzz_smoke_test, which runs their seeds and some changes of them with any compiler.
if(REFAULT_FUZZ AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "REFAULT_FUZZ needs clang++; use: cmake --preset fuzz")
endif()

set(fuzz_folder ${CMAKE_SOURCE_DIR}/fuzz)
set(fuzz_sources)
set(fuzz_libraries)

# refault_fuzz_target(NAME FOLDER): fuzz/NAME_fuzz.cc, which includes from this folder of src/ and those below it.
function(refault_fuzz_target name folder)
  set(source ${fuzz_folder}/${name}_fuzz.cc)
  if(REFAULT_FUZZ)
    add_executable(${name}_fuzz ${source} ${fuzz_folder}/target.cc ${fuzz_folder}/driver.cc)
    target_compile_options(${name}_fuzz PRIVATE "SHELL:-iquote ${CMAKE_SOURCE_DIR}")
    target_link_libraries(${name}_fuzz PRIVATE refault_${folder})
    target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
  endif()
  list(APPEND fuzz_sources ${source})
  list(APPEND fuzz_libraries refault_${folder})
  set(fuzz_sources ${fuzz_sources} PARENT_SCOPE)
  set(fuzz_libraries ${fuzz_libraries} PARENT_SCOPE)
endfunction()

refault_fuzz_target(request wire)
refault_fuzz_target(reply wire)
refault_fuzz_target(pager wire)
refault_fuzz_target(spec device)
refault_fuzz_target(label device)
refault_fuzz_target(operations store)
refault_fuzz_target(log store)
refault_fuzz_target(open store)
refault_fuzz_target(tree store)
refault_fuzz_target(options mount)
refault_fuzz_target(control daemon)
refault_fuzz_target(http daemon)

file(GLOB fuzz_found CONFIGURE_DEPENDS ${fuzz_folder}/*_fuzz.cc)
list(REMOVE_ITEM fuzz_found ${fuzz_sources})
if(fuzz_found)
  message(FATAL_ERROR "no refault_fuzz_target() in cmake/fuzz.cmake for: ${fuzz_found}")
endif()

if(REFAULT_TESTS)
  add_executable(fuzz_smoke_test ${fuzz_sources} ${fuzz_folder}/target.cc ${fuzz_folder}/mutate.cc
    ${fuzz_folder}/smoke_test.cc)
  target_compile_options(fuzz_smoke_test PRIVATE "SHELL:-iquote ${CMAKE_SOURCE_DIR}" -O1)
  list(REMOVE_DUPLICATES fuzz_libraries)
  target_link_libraries(fuzz_smoke_test PRIVATE ${fuzz_libraries} GTest::gtest_main)
  gtest_discover_tests(fuzz_smoke_test DISCOVERY_MODE PRE_TEST NO_PRETTY_VALUES
    PROPERTIES LABELS unit TIMEOUT 300)
endif()
