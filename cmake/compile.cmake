# How everything is compiled. Targets take the warnings and include paths by linking refault_options.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)

# What is not marked RF_API stays inside librefault.so.
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

find_program(REFAULT_CCACHE ccache)
mark_as_advanced(REFAULT_CCACHE)
foreach(language C CXX)
  if(REFAULT_CCACHE AND NOT CMAKE_${language}_COMPILER_LAUNCHER)
    set(CMAKE_${language}_COMPILER_LAUNCHER ${REFAULT_CCACHE})
  endif()
endforeach()

# Folders are static libraries, and each brings its external libraries to the link line of whatever uses it. Only those
# whose symbols are really used become a run-time dependency: this keeps librefault.so free of the daemon's libraries.
add_link_options(-Wl,--as-needed)

if(REFAULT_SANITIZE)
  # vptr needs the type information of code we do not build. A finding ends the program, so that the test fails.
  set(sanitize -fsanitize=${REFAULT_SANITIZE} -fno-sanitize=vptr -fno-sanitize-recover=all)
  add_compile_options(${sanitize} -fno-omit-frame-pointer)
  add_link_options(${sanitize})
endif()

add_library(refault_options INTERFACE)
target_compile_options(refault_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion $<$<BOOL:${REFAULT_WERROR}>:-Werror>
  # Quoted includes alone start at src/, so that "sys/socket.h" is ours and <sys/socket.h> the system's.
  "SHELL:-iquote ${CMAKE_SOURCE_DIR}/src")
target_compile_definitions(refault_options INTERFACE $<$<BOOL:${REFAULT_DEBUG_LOCKS}>:REFAULT_DEBUG_LOCKS>)
target_include_directories(refault_options INTERFACE ${CMAKE_SOURCE_DIR}/include)
