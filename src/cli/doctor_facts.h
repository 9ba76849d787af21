// The parts of gather_facts(): each fills in what it finds and leaves the rest alone. Stateless.
#pragma once

#include "cli/doctor.h"

namespace refault::cli {

void gather_kernel_facts(DoctorFacts& facts);
void gather_mount_facts(DoctorFacts& facts);
void gather_process_facts(DoctorFacts& facts);
void gather_run_dir_facts(DoctorFacts& facts);
void gather_daemon_facts(DoctorFacts& facts, const std::string& control_socket);

}  // namespace refault::cli
