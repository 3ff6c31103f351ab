# One fuzzer over its corpus: RUNS executions, the corpus among them; 0: the corpus alone. New inputs
# and what fails go to WORK, which is emptied before: what an earlier run found would change this one.

file(REMOVE_RECURSE "${WORK}")
file(MAKE_DIRECTORY "${WORK}/new")
file(GLOB inputs "${CORPUS}/*")
list(LENGTH inputs count)
if(count EQUAL 0)
  message(FATAL_ERROR "there is no corpus in ${CORPUS}")
endif()
execute_process(
  COMMAND "${PROGRAM}" -runs=${RUNS} -seed=1 -max_len=2048 -timeout=20 -rss_limit_mb=2048
          -malloc_limit_mb=256 -print_final_stats=1 -artifact_prefix=${WORK}/
          "${WORK}/new" "${CORPUS}"
  RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  file(GLOB failed RELATIVE "${WORK}" "${WORK}/*-*")
  message(FATAL_ERROR "it failed; \"${PROGRAM} ${WORK}/${failed}\" replays it")
endif()
