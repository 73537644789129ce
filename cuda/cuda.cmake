# The CUDA backend, a plug-in: libtern_cuda.so from cuda/*.cu and cuda/*.c. cuda/x.cu exports
# ti_cuda_x. It needs nvcc 12.8 or later; without it the plug-in is left out, which is said.
option(TERN_CUDA "Build libtern_cuda.so, if nvcc is there" OFF)
set(TERN_CUDA_ARCHS "75;80;90;100;120" CACHE STRING
  "GPU architectures to build for; PTX of the last one serves later ones")

file(GLOB cuda_kernels CONFIGURE_DEPENDS cuda/*.cu)
tern_table(cuda_text "const ti_row" ti_cuda ti_cuda_rows ${cuda_kernels})
file(CONFIGURE OUTPUT generated/cuda_tables.c @ONLY CONTENT
"/* Made by CMake from the names of the files in cuda. */
#include \"core/row.h\"
extern const ti_row *const ti_cuda_rows[];
@cuda_text@")
# Rows by the vendor's libraries, cuda/cublas_x.c and cuda/cudnn_x.c export ti_vendor_<name>: where
# the headers are. The libraries themselves are opened at run time.
set(cuda_where HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda /opt/cuda
  PATH_SUFFIXES include)
find_path(TERN_CUBLASLT_INCLUDE cublasLt.h ${cuda_where})
find_path(TERN_CUDNN_INCLUDE cudnn.h ${cuda_where})
set(cuda_vendor_files "")
set(cublas_host "")
set(cuda_vendor_includes "")
set(cuda_vendor_defs "")
if(TERN_CUBLASLT_INCLUDE)
  file(GLOB cuda_vendor_files CONFIGURE_DEPENDS cuda/cublas_*.c)
  set(cublas_host ${PROJECT_SOURCE_DIR}/cuda/lt.c)
  list(APPEND cuda_vendor_includes ${TERN_CUBLASLT_INCLUDE})
  list(APPEND cuda_vendor_defs TI_WITH_CUBLASLT=1)
endif()
if(TERN_CUDNN_INCLUDE)
  file(GLOB cudnn_files CONFIGURE_DEPENDS cuda/cudnn_*.c)
  list(APPEND cuda_vendor_files ${cudnn_files})
  list(APPEND cuda_vendor_includes ${TERN_CUDNN_INCLUDE})
  list(APPEND cuda_vendor_defs TI_WITH_CUDNN=1)
endif()
tern_table(vendor_text "const ti_row" ti_vendor ti_vendor_rows ${cuda_vendor_files})
file(CONFIGURE OUTPUT generated/vendor_tables.c @ONLY CONTENT
"/* Made by CMake from the names of the files in cuda. */
#include \"core/row.h\"
extern const ti_row *const ti_vendor_rows[];
@vendor_text@")

# Beside the kernels: what the simt plug-in is made of, too.
set(cudnn_host "")
if(TERN_CUDNN_INCLUDE)
  set(cudnn_host ${PROJECT_SOURCE_DIR}/cuda/dnn.c ${PROJECT_SOURCE_DIR}/cuda/plans.c
    ${PROJECT_SOURCE_DIR}/cuda/conv_plan.c)
endif()
set(cuda_host ${PROJECT_SOURCE_DIR}/cuda/backend.c ${PROJECT_SOURCE_DIR}/cuda/capture.c
  ${PROJECT_SOURCE_DIR}/cuda/stage.c ${PROJECT_SOURCE_DIR}/cuda/library.c
  ${PROJECT_SOURCE_DIR}/cuda/vendor.c ${PROJECT_SOURCE_DIR}/cuda/trust.c
  ${PROJECT_SOURCE_DIR}/cuda/fastest.c
  ${PROJECT_SOURCE_DIR}/cuda/inner.c ${PROJECT_SOURCE_DIR}/cuda/layer_d.c ${cublas_host}
  ${cudnn_host}
  ${cuda_vendor_files} ${PROJECT_SOURCE_DIR}/host/core/meta.c ${PROJECT_SOURCE_DIR}/host/base/env.c
  ${CMAKE_CURRENT_BINARY_DIR}/generated/cuda_tables.c
  ${CMAKE_CURRENT_BINARY_DIR}/generated/vendor_tables.c)

set(cuda_left_out "")
if(NOT TERN_CUDA)
  set(cuda_left_out "TERN_CUDA is OFF")
else()
  find_program(TERN_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
  if(NOT TERN_NVCC)
    set(cuda_left_out "there is no nvcc")
  else()
    execute_process(COMMAND ${TERN_NVCC} --version OUTPUT_VARIABLE nvcc_version)
    string(REGEX MATCH "release ([0-9.]+)" nvcc_version "${nvcc_version}")
    set(nvcc_version ${CMAKE_MATCH_1})
    if(nvcc_version VERSION_LESS 12.8)
      set(cuda_left_out "nvcc is ${nvcc_version}, 12.8 is needed")
    endif()
  endif()
endif()
if(cuda_left_out)
  message(STATUS "left out: the CUDA plug-in (${cuda_left_out})")
else()
  set(CMAKE_CUDA_COMPILER ${TERN_NVCC})
  list(TRANSFORM TERN_CUDA_ARCHS APPEND "-real" OUTPUT_VARIABLE CMAKE_CUDA_ARCHITECTURES)
  list(GET TERN_CUDA_ARCHS -1 newest)
  list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)

  # Kernels by nvcc, all else by the C compiler, which also links: no C++ library comes along.
  add_library(tern_cuda_kernels OBJECT ${cuda_kernels})
  set(host_flags -Wall,-Wextra,-Wno-missing-field-initializers,-fno-exceptions,-fno-rtti)
  set_property(TARGET tern_cuda_kernels PROPERTY COMPILE_OPTIONS --fmad=false
    --compress-mode=size -Werror=all-warnings -Xcompiler=${host_flags},-fno-threadsafe-statics)
  target_include_directories(tern_cuda_kernels PRIVATE include host cuda)
  add_library(tern_cuda MODULE ${cuda_host} $<TARGET_OBJECTS:tern_cuda_kernels>)
  set_target_properties(tern_cuda PROPERTIES LINKER_LANGUAGE C
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/plugin.map)
  target_include_directories(tern_cuda PRIVATE include host cuda)
  target_include_directories(tern_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS}
    ${cuda_vendor_includes})
  list(JOIN TERN_CUDA_ARCHS " sm_" inside)
  target_compile_definitions(tern_cuda PRIVATE _GNU_SOURCE TI_CORE_HASH="${core_hash}"
    TI_CUDA_ARCHS="sm_${inside}, and PTX of the last" ${cuda_vendor_defs})
  target_link_libraries(tern_cuda PRIVATE CUDA::cudart_static m ${CMAKE_DL_LIBS})
  # nodelete: the CUDA runtime in it is not made to be unloaded and loaded again.
  target_link_options(tern_cuda PRIVATE -Wl,--exclude-libs,ALL -Wl,--no-undefined -Wl,-z,nodelete
    -Wl,--version-script=${PROJECT_SOURCE_DIR}/cuda/plugin.map)
  install(TARGETS tern_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cuda)
endif()
