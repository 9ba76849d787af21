# External libraries. tools/install-deps.sh has the packages, src/CMakeLists.txt says which folder may use which.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
pkg_check_modules(ISAL REQUIRED IMPORTED_TARGET libisal)
pkg_check_modules(NUMA REQUIRED IMPORTED_TARGET numa)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(FUSE3 REQUIRED IMPORTED_TARGET fuse3)
pkg_check_modules(CAPNG REQUIRED IMPORTED_TARGET libcap-ng)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(SYSTEMD REQUIRED IMPORTED_TARGET libsystemd)
pkg_check_modules(TOML REQUIRED IMPORTED_TARGET tomlplusplus)

# The compiled cpp-httplib, not the header alone. Its flags change the layout of its classes (CPPHTTPLIB_OPENSSL_SUPPORT
# and others), so every file that includes httplib.h must be compiled with them: take them from pkg-config, never repeat
# them by hand.
pkg_check_modules(HTTPLIB REQUIRED IMPORTED_TARGET cpp-httplib)

target_link_libraries(refault_options INTERFACE Threads::Threads)

if(REFAULT_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
