//! What loading answers where there is no cuBLAS to load. One test, since the choice is the process's environment.

use cublas_sys::{Cublas, LIBRARY_VARIABLE, LoadError};

#[test]
fn a_folder_without_cublas_is_an_error_that_names_what_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("libcublasLt.so.12"), "not a library").unwrap();
    // SAFETY: no other thread of this process touches the environment.
    unsafe { std::env::set_var(LIBRARY_VARIABLE, folder.path()) };
    let error = Cublas::load().unwrap_err();
    let LoadError::NotFound { tried } = &error else { panic!("{error}") };
    assert_eq!(tried.len(), 2);
    assert!(tried[0].contains("libcublasLt.so.13"), "{tried:?}");
    assert!(tried[1].contains("libcublasLt.so.12") && !tried[1].contains("No such file"), "{tried:?}");
    assert!(error.to_string().ends_with("or set WORKER_ORCD_CUBLAS to the folder that holds it"), "{error}");
    assert!(!error.to_string().contains('\n'));
}
